-- probe: whether it is time to ask if a paused account works again, and whose turn it is.
-- include: common clock pace held events observe
-- arg: probe_delays_us (before each probe in turn; the last one repeats)
-- Answers 1 for one caller when a probe is due, else 0.
read_clock()
local at = redis.call('HGET', key('pause'), 'probe')
if not at or tonumber(at) > now.later then
  return 0
end
redis.call('INCR', key('probes'))
redis.call('EXPIRE', key('probes'), 24 * 60 * 60)
redis.call('HSET', key('pause'), 'probe', text(now.later + probe_delay_us(arg.probe_delays_us)))
return 1
