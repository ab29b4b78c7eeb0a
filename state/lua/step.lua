-- step: a worker saw Redis's clock step, by its own that never does.
-- include: common clock
-- arg: step_us (ahead, or back where it is below 0)
-- Answers 1, or 0 when another worker said so before.
read_clock()
local last = tonumber(redis.call('HGET', key('clock'), 'stepped') or 0)
if math.abs(now.redis - last) < 3000000 then
  return 0
end
redis.call('HSET', key('clock'), 'stepped', text(now.redis), 'step', text(arg.step_us))
redis.call('HINCRBY', key('clock'), 'steps', 1)
return 1
