-- The account's pace: slots, rates, and when a request may leave. Put in front of the scripts, after
-- common.lua.
local FAR_US = 2000000 -- no slot is given, and no request held, for a time that is farther away
local THROTTLE_MS = 60 * 60 * 1000 -- an account that asked for nothing so long starts afresh
local CATCH_UP = 1.008

-- When the account's next request may start: unused time is not saved up.
local function next_slot(now)
  local throttle = redis.call('HMGET', key('throttle'), 'slot', 'hold')
  return math.max(now, tonumber(throttle[1]) or 0, tonumber(throttle[2]) or 0)
end

-- Requests a second now. After a cut the rate comes back by itself: quickly to near where ChartMogul
-- objected, then slowly, and the faster the longer it has not objected again.
local function current_rate(allowed, now)
  local throttle = redis.call('HMGET', key('throttle'), 'rate', 'at', 'ceiling', 'cut')
  local rate, at = tonumber(throttle[1]), tonumber(throttle[2])
  if not rate then
    return allowed
  end
  local elapsed_s = math.max(0, now - at) / 1000000
  local since_cut_s = (now - (tonumber(throttle[4]) or 0)) / 1000000
  local near = 0.95 * (tonumber(throttle[3]) or allowed)
  local quick = 0.02 * allowed
  local slow = math.min(quick, 0.001 * allowed * (1 + (since_cut_s / 10) ^ 2))
  local quick_s = math.min(elapsed_s, math.max(0, near - rate) / quick)
  return math.min(allowed, rate + quick_s * quick + (elapsed_s - quick_s) * slow)
end

-- When a request may leave. Its slot was given before, and what lies between, such as a stalled
-- machine, makes requests crowd; ChartMogul counts them as they come. After a gap they leave a little
-- faster than slots are given, which makes up for it.
local function leave_at(allowed, now)
  local many = math.floor(allowed) + 1 -- requests in a second and a bit
  local first = tonumber(redis.call('LINDEX', key('sent'), many - 1) or 0)
  local last = tonumber(redis.call('LINDEX', key('sent'), 0) or 0)
  local at = math.max(now, first + many * 1000000 / allowed / CATCH_UP, last + 800000 / allowed)
  at = math.min(at, now + FAR_US) -- the request's time is running
  redis.call('LPUSH', key('sent'), text(at))
  redis.call('LTRIM', key('sent'), 0, 2 * many) -- `depart` takes some out again
  redis.call('PEXPIRE', key('sent'), 4000 + math.ceil(2000 / allowed))
  return { text(at), math.ceil((at - now) / 1000) }
end
