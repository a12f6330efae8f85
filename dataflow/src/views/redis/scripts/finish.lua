-- The rows are gone: the views are this log's and empty, if the caller's mark stands.
--
-- KEYS: the views' own key. ARGV: the caller's mark, identity.
if redis.call('HGET', KEYS[1], 'identity') ~= ARGV[1] then
    return 0
end
redis.call('HSET', KEYS[1], 'identity', ARGV[2])
return 1
