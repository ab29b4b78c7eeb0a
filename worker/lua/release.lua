-- release: due mailboxes get a lease each, live ones first, as long as there is room in flight.
-- Takes back expired leases before, so nothing waits for a worker that died. A paused account gets
-- none, nor one whose next slot is far; an open circuit lets one through at a time, when it is due.
-- ARGV: leases at once at most, milliseconds of a lease, a fresh text to make tokens of
-- Answers milliseconds until there is something to release again (-1: nothing is waiting), then
-- for each lease: mailbox, token, email, number of attributes.
local max_parallel, lease_us = tonumber(ARGV[1]), ARGV[2] * 1000
local now = now_us()

for _, mailbox in ipairs(redis.call('ZRANGEBYSCORE', key('inflight'), '-inf', now)) do
  end_lease(mailbox)
  if redis.call('EXISTS', key('mailbox:' .. mailbox)) == 1 then
    make_due(mailbox, now)
  end
end

local released = {}
local free = max_parallel - redis.call('ZCARD', key('inflight'))
local not_before = next_slot(now) - FAR_US
local circuit = redis.call('HMGET', key('circuit'), 'opened', 'next')
if circuit[1] then
  free = math.min(free, 1 - redis.call('ZCARD', key('inflight')))
  not_before = math.max(not_before, tonumber(circuit[2]))
end
-- No more than can have a slot soon: the others would lose their place in the lane.
local rate = tonumber(redis.call('HGET', key('throttle'), 'rate') or 0)
if rate > 0 then
  free = math.min(free, math.max(1, math.floor((now - not_before) * rate / 1000000) + 1))
end
local held = not_before > now
local paused = redis.call('EXISTS', key('pause')) == 1
if held or paused then
  free = 0
end
for _, lane in ipairs({ 'due:live', 'due:bulk' }) do
  if free > 0 then
    for _, mailbox in ipairs(redis.call('ZRANGEBYSCORE', key(lane), '-inf', now, 'LIMIT', 0, free)) do
      redis.call('ZREM', key(lane), mailbox)
      local box = redis.call('HGETALL', key('mailbox:' .. mailbox))
      local email, attributes = nil, 0
      for i = 1, #box, 2 do
        if box[i] == '@email' then
          email = box[i + 1]
        elseif string.sub(box[i], 1, 1) ~= '@' then
          attributes = attributes + 1
        end
      end
      if attributes > 0 then
        local token = ARGV[3] .. '.' .. #released
        redis.call('ZADD', key('inflight'), now + lease_us, mailbox)
        redis.call('HSET', key('leases'), mailbox, token)
        released[#released + 1] = { mailbox, token, email, attributes }
        free = free - 1
      end
    end
  end
end

-- The earliest of: the end of a lease, the end of what holds all back, and, while there is room, a
-- due time.
local soonest = redis.call('ZRANGE', key('inflight'), 0, 0, 'WITHSCORES')[2]
if held and not paused and (not soonest or not_before < tonumber(soonest)) then
  soonest = not_before
end
if free > 0 then
  for _, lane in ipairs({ 'due:live', 'due:bulk' }) do
    local due = redis.call('ZRANGE', key(lane), 0, 0, 'WITHSCORES')[2]
    if due and (not soonest or tonumber(due) < tonumber(soonest)) then
      soonest = due
    end
  end
end
local wait_ms = soonest and math.max(0, math.ceil((tonumber(soonest) - now) / 1000)) or -1
return { wait_ms, released }
