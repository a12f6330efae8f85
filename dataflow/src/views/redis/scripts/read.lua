#!lua flags=no-writes
-- Reads ranges of rows, all as of one moment, with what is needed to know whether they are whole. (A transaction would do
-- the same, but Redis refuses those when its memory is full.)
--
-- KEYS: the views' own key, then the keys of the rows.
-- ARGV: for each of those the bounds, 'REV' or nothing, and how many at the most.
local rows = {}
for index = 2, #KEYS do
    local at = (index - 2) * 4
    if ARGV[at + 3] == 'REV' then
        rows[index - 1] = redis.call('ZRANGE', KEYS[index], ARGV[at + 1], ARGV[at + 2], 'BYLEX', 'REV', 'LIMIT', '0', ARGV[at + 4])
    else
        rows[index - 1] = redis.call('ZRANGE', KEYS[index], ARGV[at + 1], ARGV[at + 2], 'BYLEX', 'LIMIT', '0', ARGV[at + 4])
    end
end
local state = redis.call('HMGET', KEYS[1], 'identity', 'whole')
return {state[1] or '', state[2] or '0', rows}
