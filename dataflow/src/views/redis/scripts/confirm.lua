-- Checks that the partitions stand where the caller left them, and marks those that have been at the log's end.
--
-- KEYS: the views' own key.
-- ARGV: identity, generation, then (field, expected, mark) of each partition; the mark is empty where there is nothing to be marked.
local views = KEYS[1]
local identity = redis.call('HGET', views, 'identity')
if identity ~= ARGV[1] then
    return {'identity', identity or ''}
end
if (redis.call('HGET', views, 'generation') or '') ~= ARGV[2] then
    return {'overtaken', '0', redis.call('HGET', views, ARGV[3]) or '0'}
end
for at = 3, #ARGV, 3 do
    local found = redis.call('HGET', views, ARGV[at]) or '0'
    if found ~= ARGV[at + 1] then
        return {'overtaken', tostring((at - 3) / 3), found}
    end
end
for at = 3, #ARGV, 3 do
    if ARGV[at + 2] ~= '' and redis.call('HSETNX', views, ARGV[at + 2], '1') == 1 then
        redis.call('HINCRBY', views, 'whole', 1)
    end
end
return {'ok'}
