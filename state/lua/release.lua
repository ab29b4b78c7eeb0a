-- release: due mailboxes get a lease each, as long as there is room in flight, and with it the next
-- slot of the account's pace (GCRA): live ones before bulk ones, which have a share all the same.
-- Takes back expired leases before, so nothing waits for a worker that died. A paused account gets
-- none, nor one whose next slot is far; an open circuit lets one through at a time, when it is due.
-- ARGV: leases at once at most, milliseconds from its slot in which a lease must be claimed,
--   a fresh text to make tokens of, share of the leases for bulk while both lanes wait (0 to 1,
--   exclusive), milliseconds in which bulk mailboxes gather jobs, while more come in,
--   requests a second allowed
-- Answers milliseconds until there is something to release again (-1: nothing is waiting), then
-- for each lease: mailbox, token, email, number of attributes, milliseconds until its slot.
local max_parallel, transit_us = tonumber(ARGV[1]), ARGV[2] * 1000
local now = now_us()

for _, mailbox in ipairs(redis.call('ZRANGEBYSCORE', key('inflight'), '-inf', now)) do
  end_lease(mailbox)
  if redis.call('EXISTS', key('mailbox:' .. mailbox)) == 1 then
    make_due(mailbox, now)
  end
end

local released = {}
local free = max_parallel - redis.call('ZCARD', key('inflight'))
local slot, rate = next_slot(now), current_rate(tonumber(ARGV[6]), now)
local not_before = slot - FAR_US
local circuit = redis.call('HMGET', key('circuit'), 'opened', 'next')
if circuit[1] then
  free = math.min(free, 1 - redis.call('ZCARD', key('inflight')))
  not_before = math.max(not_before, tonumber(circuit[2]))
end
local paused = redis.call('EXISTS', key('pause')) == 1
if paused then
  free = 0
end
local gather_us = redis.call('ZCARD', key('inbox:bulk')) > 0 and ARGV[5] * 1000 or 0
local function waiting(lane, until_us)
  local room = free > 0 and not_before <= now
  return room and redis.call('ZRANGEBYSCORE', key(lane), '-inf', until_us, 'LIMIT', 0, free) or {}
end
local live, bulk = waiting('due:live', now), waiting('due:bulk', now - gather_us)
local turn = tonumber(redis.call('HGET', key('throttle'), 'turn') or 0) -- at 1, but for rounding, it is bulk's
local function next_mailbox()
  if #live > 0 and (#bulk == 0 or turn < 0.999) then
    if #bulk > 0 then
      turn = turn + ARGV[4] / (1 - ARGV[4])
    end
    return table.remove(live, 1), 'due:live'
  elseif #bulk > 0 then
    turn = math.max(0, turn - 1)
    return table.remove(bulk, 1), 'due:bulk'
  end
end
local before = turn
while free > 0 and not_before <= now do
  local mailbox, lane = next_mailbox()
  if not mailbox then
    break
  end
  redis.call('ZREM', key(lane), mailbox)
  local box = redis.call('HGETALL', key('mailbox:' .. mailbox))
  local job, attributes = nil, 0
  for i = 1, #box, 2 do
    if is_value(box[i]) then
      attributes = attributes + 1
    elseif string.sub(box[i], 1, 1) == '#' then
      job = job_of(box[i + 1])
    end
  end
  if attributes > 0 and job then -- else it is empty, or waits to be upgraded
    local token = ARGV[3] .. '.' .. #released .. '@' .. text(slot)
    redis.call('ZADD', key('inflight'), slot + transit_us, mailbox)
    redis.call('HSET', key('leases'), mailbox, token)
    local email = redis.call('HGET', key('outcome:' .. job), 'email')
    released[#released + 1] = { mailbox, token, email, attributes, math.ceil((slot - now) / 1000) }
    free = free - 1
    slot = slot + 1000000 / rate
    not_before = math.max(not_before, slot - FAR_US)
  end
end
if #released > 0 or turn ~= before then
  redis.call('HSET', key('throttle'), 'slot', text(slot), 'rate', rate, 'at', text(now), 'turn', turn)
  redis.call('PEXPIRE', key('throttle'), THROTTLE_MS)
end

-- The earliest of: the end of a lease, the end of what holds all back, and, while there is room, a
-- due time.
local soonest = redis.call('ZRANGE', key('inflight'), 0, 0, 'WITHSCORES')[2]
if not_before > now and not paused and (not soonest or not_before < tonumber(soonest)) then
  soonest = not_before
end
if free > 0 and not_before <= now then
  for lane, later_us in pairs({ ['due:live'] = 0, ['due:bulk'] = gather_us }) do
    local due = redis.call('ZRANGE', key(lane), 0, 0, 'WITHSCORES')[2]
    due = due and due + later_us
    if due and (not soonest or due < tonumber(soonest)) then
      soonest = due
    end
  end
end
local wait_ms = soonest and math.max(0, math.ceil((tonumber(soonest) - now) / 1000)) or -1
return { wait_ms, released }
