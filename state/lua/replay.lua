-- replay: a job that ended without being delivered goes back to the inbox, as it was asked for.
-- include: common inbox
-- arg: job, statuses (that can be replayed)
-- Answers 1, or 0 when its outcome is another one or its values are not kept.
local outcome = redis.call('GET', key('outcome:' .. arg.job))
if not outcome then -- perhaps this same call put it back, and its answer was lost
  return redis.call('HEXISTS', key('inbox'), arg.job)
end
local found, replayable = cjson.decode(outcome), false
for _, status in ipairs(arg.statuses) do
  replayable = replayable or found.s == status
end
if not replayable or not found.d then
  return 0
end
redis.call('HSET', key('inbox'), arg.job, found.d)
redis.call('ZADD', key('inbox:' .. (found.l or 'live')), text(math.max(now.redis, last_arrival(now.redis))), arg.job)
redis.call('DEL', key('outcome:' .. arg.job))
-- It keeps when it occurred, also where a wrong clock said that: stage does not judge it again.
redis.call('SADD', key('replays'), arg.job)
redis.call('EXPIRE', key('replays'), 30 * 24 * 60 * 60)
return 1
