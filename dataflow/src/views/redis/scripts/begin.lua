-- Begins to drop what is not this log's, unless somebody else is at it. While the mark stands, nobody applies.
--
-- KEYS: the views' own key.
-- ARGV: identity, the caller's mark, a mark that is taken over (or empty), '1' if another log's views may be dropped.
local views = KEYS[1]
local found = redis.call('HGET', views, 'identity')
if found == ARGV[1] then
    return {'ours'}
end
if found and string.sub(found, 1, 9) == 'dropping ' then
    if found ~= ARGV[3] and found ~= ARGV[2] then
        return {'busy', found}
    end
elseif found and ARGV[4] ~= '1' then
    return {'foreign', found}
end
redis.call('DEL', views)
redis.call('HSET', views, 'identity', ARGV[2])
return {'drop', found or ''}
