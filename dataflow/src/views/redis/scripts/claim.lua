-- Claims a database for views that are built anew, if it is empty; says whose rebuild it is, or nothing where it is none.
--
-- KEYS: the claim. ARGV: identity.
local found = redis.call('GET', KEYS[1])
if found then
    return found
end
if redis.call('DBSIZE') > 0 then
    return ''
end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
