-- depart: when a request that is ready may leave. Its slot was given before, and what lies between,
-- such as a new connection or a stalled machine, makes requests crowd; ChartMogul counts them as they
-- come. After a gap they leave a little faster than slots are given, which makes up for it.
-- ARGV: requests a second allowed
-- Answers the time to leave in microseconds, at which the request is counted as sent, and in how many
-- milliseconds that is.
local allowed = tonumber(ARGV[1])
local many = math.floor(allowed) + 1 -- requests in a second and a bit
local CATCH_UP = 1.008
local now = now_us()
local first = tonumber(redis.call('LINDEX', key('sent'), many - 1) or 0)
local last = tonumber(redis.call('LINDEX', key('sent'), 0) or 0)
local at = math.max(now, first + many * 1000000 / allowed / CATCH_UP, last + 800000 / allowed)
at = math.min(at, now + FAR_US) -- the request's time is running
redis.call('LPUSH', key('sent'), text(at))
redis.call('LTRIM', key('sent'), 0, many - 1)
redis.call('PEXPIRE', key('sent'), 4000 + math.ceil(2000 / allowed))
return { text(at), math.ceil((at - now) / 1000) }
