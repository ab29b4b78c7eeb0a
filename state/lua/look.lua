-- look: whether an account needs something that no message asked for: what a lost message, a dead
-- stint, the end of a hold or a retry that falls due rests on.
-- include: common clock mailbox pace held
-- arg: rate_limit, max_parallel, within_us (how far to look ahead)
-- Answers { 1 if jobs wait to be accepted, 1 if a stint of deliveries is needed, 1 if a paused account is
-- to be asked, microseconds until the next of these is expected (at most within_us) }.
read_clock()
local soonest = arg.within_us
local function first(name)
  return redis.call('ZRANGE', key(name), 0, 0, 'WITHSCORES')[2]
end
local function expect(at, from)
  if at and tonumber(at) > from then
    soonest = math.min(soonest, tonumber(at) - from)
  end
  return at and tonumber(at) <= from
end

local inbox = redis.call('EXISTS', key('inbox:live'), key('inbox:bulk')) > 0
inbox = expect(first('inbox:taken'), now.account) or inbox

local pause = redis.call('HMGET', key('pause'), 'since', 'probe')
if pause[1] then
  local probe = pause[2] and expect(pause[2], now.later)
  return { inbox and 1 or 0, 0, probe and 1 or 0, math.ceil(soonest) }
end

local fresh = redis.call('EXISTS', key('due:live'), key('due:bulk')) > 0
local due = fresh or redis.call('EXISTS', key('due:failing')) > 0
due = expect(first('later'), now.later) or due
due = expect(first('leases'), now.account) or due
local circuit = due and read_circuit()
if circuit then
  due = expect(fresh and circuit.next_us or circuit.slow_us, now.account)
end
local waiting = redis.call('ZCOUNT', key('waiting'), text(now.account - 2000000), '+inf') > 0
local room = redis.call('ZCARD', key('leases')) < arg.max_parallel
local far = send_time(arg.rate_limit) - now.account > AHEAD_US
return { inbox and 1 or 0, due and room and not waiting and not far and 1 or 0, 0, math.ceil(soonest) }
