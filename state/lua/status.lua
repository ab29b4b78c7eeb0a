-- status: how an account stands, at one moment.
-- include: common clock pace
-- arg: rate_limit
-- Answers JSON: redis_us; inbox and inbox_since; lanes: { due, since }; later; in_flight; rate; hold_us;
-- pause and circuit (as fields, or absent), each with `next_us` until its next probe; clock; settled: the
-- last hour's counts by status.
read_clock()
local function as_table(name)
  local fields, found = redis.call('HGETALL', key(name)), {}
  for i = 1, #fields, 2 do
    found[fields[i]] = fields[i + 1]
  end
  return next(found) and found
end
local function lane(name)
  return { due = redis.call('ZCARD', key(name)),
    since = redis.call('ZRANGE', key(name), 0, 0, 'WITHSCORES')[2] }
end
local since
for _, name in ipairs({ 'inbox:live', 'inbox:bulk' }) do
  local first = redis.call('ZRANGE', key(name), 0, 0, 'WITHSCORES')[2]
  if first and (not since or tonumber(first) < tonumber(since)) then
    since = first
  end
end
local settled, minute = {}, math.floor(now.redis / 60000000)
for m = minute - 59, minute do
  for status, count in pairs(as_table('counters:' .. text(m)) or {}) do
    settled[status] = (settled[status] or 0) + count
  end
end
local pause, circuit = as_table('pause'), as_table('circuit')
if pause and pause.probe then
  pause.next_us = text(math.max(0, pause.probe - now.later))
end
if circuit then
  circuit.next_us = circuit.next and text(math.max(0, circuit.next - now.account))
end
return cjson.encode({
  redis_us = text(now.redis),
  inbox = redis.call('HLEN', key('inbox')),
  inbox_since = since,
  lanes = { live = lane('due:live'), bulk = lane('due:bulk'), failing = lane('due:failing') },
  later = redis.call('ZCARD', key('later')),
  in_flight = redis.call('ZCARD', key('leases')),
  rate = string.format('%.2f', current_rate(arg.rate_limit)),
  hold_us = text(math.max(0, (pace.hold or 0) - now.account)),
  pause = pause, circuit = circuit and circuit.opened and circuit or nil,
  clock = as_table('clock'), repairs = as_table('repairs'),
  settled = settled,
})
