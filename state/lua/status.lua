-- status: how an account stands, at one moment. It changes nothing, so it works on a full Redis, too.
-- include: common clock pace
-- arg: rate_limit
-- Answers JSON: redis_us; inbox, its jobs; lanes: { due, since } of inbox and mailboxes; later; in_flight; rate; requests
-- (that left in the last second); hold_us; pause and circuit (as fields, or absent), each with `next_us`
-- until its next probe; clock, repairs, workers, layout; counts: `now`, and as they were an `hour` ago.
read_clock(true)
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
-- What workers have taken waits as well, as long as it is there.
local function inbox_lane(name)
  local found = lane('inbox:' .. name)
  for _, entry in ipairs(redis.call('ZRANGE', key('inbox:taken'), 0, 999)) do
    local arrival = string.match(entry, '^' .. name .. ' (%d+) ')
    if arrival then
      found.due = found.due + 1
      found.since = math.min(tonumber(found.since or arrival), arrival)
    end
  end
  found.since = found.since and text(found.since)
  return found
end

-- The counts as they were when a minute began: where nothing was counted in it, as when the next one did.
local minute = math.floor(now.redis / 60000000)
local function counts_at(first)
  for m = first, minute do
    local found = as_table('counts:' .. text(m))
    if found then
      return found
    end
  end
  return as_table('counts')
end

local pause, circuit = as_table('pause'), as_table('circuit')
if pause and pause.probe then
  pause.next_us = text(math.max(0, pause.probe - now.later))
end
if circuit and circuit.next then
  circuit.next_us = text(math.max(0, circuit.next - now.account))
end
return cjson.encode({
  redis_us = text(now.redis),
  inbox = redis.call('HLEN', key('inbox')),
  lanes = {
    inbox_live = inbox_lane('live'), inbox_bulk = inbox_lane('bulk'),
    live = lane('due:live'), bulk = lane('due:bulk'), failing = lane('due:failing'),
  },
  later = redis.call('ZCARD', key('later')),
  in_flight = redis.call('ZCARD', key('leases')),
  rate = string.format('%.2f', current_rate(arg.rate_limit)),
  requests = redis.call('ZCOUNT', key('ledger'), '(' .. text(now.account - 1000000), text(now.account)),
  hold_us = text(math.max(0, (pace.hold or 0) - now.account)),
  pause = pause, circuit = circuit,
  clock = as_table('clock'), repairs = as_table('repairs'), workers = as_table('workers'),
  layout = redis.call('GET', key('layout')),
  counts = { now = as_table('counts'), hour = counts_at(minute - 59) },
})
