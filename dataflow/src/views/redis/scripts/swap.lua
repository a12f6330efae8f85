-- Lets the views in use and those built anew in another database change places. Nothing is changed before everything is
-- checked. The claim is taken from what comes into use, and put on what goes out of it. What comes into use is of another
-- generation: whoever applies has read the rows of the one before, and must begin anew even where it stands at the same place.
--
-- KEYS: the views' own key, the claim (the same names in both databases).
-- ARGV: identity, the number of this database, that of the other, then what positions' fields begin with.
local views, claim = KEYS[1], KEYS[2]
local identity, here, there = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', views, 'identity') ~= identity then
    return 'the views in use are another log\'s, or none'
end
local used = redis.call('HGETALL', views)
local generation = (tonumber(redis.call('HGET', views, 'generation') or '0') or 0) + 1
redis.call('SELECT', there)
if redis.call('GET', claim) ~= identity or redis.call('HGET', views, 'identity') ~= identity then
    return 'the other database holds no rebuild of these views'
end
for at = 1, #used, 2 do
    local field, position = used[at], used[at + 1]
    for index = 4, #ARGV do
        if string.sub(field, 1, #ARGV[index]) == ARGV[index] then
            local found = redis.call('HGET', views, field) or '0'
            if tonumber(found) < tonumber(position) then
                return 'behind'
            end
        end
    end
end
redis.call('DEL', claim)
redis.call('HSET', views, 'generation', generation)
redis.call('SELECT', here)
redis.call('SET', claim, identity)
redis.call('SWAPDB', here, there)
return 'swapped'
