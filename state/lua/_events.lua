-- What happens to an account as a whole, noted in the step that does it. Hooks tell of it.
-- `events` is a stream: `type`, `n` (1, 2, 3, … so that a gap shows), and what else is known.
-- `watched` is a hash of what was told of and will be over some day: `circuit`, when it was opened;
-- `old`, the account time at which the backlog was first seen too old; `told`, set when that was told.
local EVENTS = 5000

local function note_event(kind, fields)
  local last = redis.call('XREVRANGE', key('events'), '+', '-', 'COUNT', 1)[1]
  local n = 0
  for i = 1, last and #last[2] or 0, 2 do
    n = last[2][i] == 'n' and tonumber(last[2][i + 1]) or n
  end
  local flat = { 'type', kind, 'n', text(n + 1) }
  for name, content in pairs(fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = content
  end
  redis.call('XADD', key('events'), 'MAXLEN', '~', EVENTS, '*', unpack(flat))
end

local function circuit_opened(reason, emails)
  redis.call('HSET', key('watched'), 'circuit', text(now.redis))
  note_event('account.circuit_opened', { reason = reason, emails = text(emails) })
end

local function circuit_closed(since, reason)
  redis.call('HDEL', key('watched'), 'circuit')
  note_event('account.circuit_closed', { since = since, reason = reason })
end

-- Removes the circuit, be it open or not.
local function end_circuit(reason)
  local opened = redis.call('HGET', key('circuit'), 'opened')
  redis.call('DEL', key('circuit'))
  if opened then
    circuit_closed(opened, reason)
  end
end
