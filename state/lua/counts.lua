-- counts: what was counted, until now and until the beginning of each of the last minutes.
-- include: common
-- arg: minutes
-- Answers JSON { redis_us, hashes: the counts, then the copy of each minute, the newest first; as
-- { field, content, … } each, empty where there is no copy }.
local minute, hashes = math.floor(now.redis / 60000000), { redis.call('HGETALL', key('counts')) }
for m = minute, minute - arg.minutes + 1, -1 do
  hashes[#hashes + 1] = redis.call('HGETALL', key('counts:' .. text(m)))
end
return cjson.encode({ redis_us = text(now.redis), hashes = hashes })
