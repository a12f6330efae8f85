#!lua
-- Applies a batch if the views are ours and every partition stands where the batch was made from. Nothing is written
-- before everything is checked; after that nothing can fail, so a batch is applied whole or not at all. (The first line
-- lets Redis 7 refuse the script when its memory is full: without it only a first write that adds something is refused.)
--
-- KEYS: the views' own key, then the keys of the rows.
-- ARGV: identity, generation, channel, message, number of moves, then (field, from, to) of each move, then the writes:
--   p key min max member   replaces what lies between min and max by the member
--   d key min max          removes what lies between them
--   b key max              removes what lies below
local views = KEYS[1]
local identity = redis.call('HGET', views, 'identity')
if identity ~= ARGV[1] then
    return {'identity', identity or ''}
end
local moves = tonumber(ARGV[5])
if (redis.call('HGET', views, 'generation') or '') ~= ARGV[2] then
    return {'overtaken', '0', redis.call('HGET', views, ARGV[6]) or '0'}
end
local at = 6
for move = 1, moves do
    local found = redis.call('HGET', views, ARGV[at]) or '0'
    if found ~= ARGV[at + 1] then
        return {'overtaken', tostring(move - 1), found}
    end
    at = at + 3
end
local last = #ARGV
while at <= last do
    local op = ARGV[at]
    local key = KEYS[tonumber(ARGV[at + 1])]
    if op == 'p' then
        redis.call('ZREMRANGEBYLEX', key, ARGV[at + 2], ARGV[at + 3])
        redis.call('ZADD', key, '0', ARGV[at + 4])
        at = at + 5
    elseif op == 'd' then
        redis.call('ZREMRANGEBYLEX', key, ARGV[at + 2], ARGV[at + 3])
        at = at + 4
    else
        redis.call('ZREMRANGEBYLEX', key, '-', ARGV[at + 2])
        at = at + 3
    end
end
at = 6
for _ = 1, moves do
    redis.call('HSET', views, ARGV[at], ARGV[at + 2])
    at = at + 3
end
if moves > 0 then
    redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return {'ok'}
