-- Drops rows, as long as the caller's mark stands.
--
-- KEYS: the views' own key, then the rows'. ARGV: the caller's mark.
if redis.call('HGET', KEYS[1], 'identity') ~= ARGV[1] then
    return 0
end
for index = 2, #KEYS do
    redis.call('UNLINK', KEYS[index])
end
return 1
