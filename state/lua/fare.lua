-- fare: how the account fares, at one moment.
-- ARGV: requests a second allowed
-- Answers { now in microseconds, jobs in the inbox, milliseconds since the epoch of the oldest of them,
--   { due now, due later, earliest in microseconds } of live and of bulk, in flight,
--   rate now, held until in microseconds ('0' for not), pause as field, value, …, circuit likewise,
--   { status, count, … } of the last hour, minute by minute }
local now = now_us()
local throttle = redis.call('HMGET', key('throttle'), 'hold')
local lanes = {}
for i, lane in ipairs({ 'due:live', 'due:bulk' }) do
  local due = redis.call('ZCOUNT', key(lane), '-inf', now)
  lanes[i] = { due, redis.call('ZCARD', key(lane)) - due,
    redis.call('ZRANGE', key(lane), 0, 0, 'WITHSCORES')[2] or '' }
end
local oldest = ''
for _, lane in ipairs({ 'inbox:live', 'inbox:bulk' }) do
  local since = redis.call('ZRANGE', key(lane), 0, 0, 'WITHSCORES')[2]
  if since and (oldest == '' or tonumber(since) < tonumber(oldest)) then
    oldest = since
  end
end
local ended = {}
local minute = math.floor(now / 60000000)
for m = minute - 59, minute do
  local counts = redis.call('HGETALL', key('counters:' .. m))
  if #counts > 0 then
    ended[#ended + 1] = counts
  end
end
return {
  text(now),
  redis.call('HLEN', key('inbox')),
  oldest,
  lanes,
  redis.call('ZCARD', key('inflight')),
  string.format('%.2f', current_rate(tonumber(ARGV[1]), now)),
  throttle[1] or '0',
  redis.call('HGETALL', key('pause')),
  redis.call('HGETALL', key('circuit')),
  ended,
}
