-- What holds an account back as a whole.
-- `pause` is a hash: `by` account or operator, `reason`, `since`, and the `probe`'s time.
-- `circuit` is a hash: `emails` that failed in a row, no success between; `opened` when there were
-- many; `next` and `slow`, the times of the next probes; `probes` made. It judges emails: one that
-- fails alone, however often, counts once.
-- `probes` counts the pings of a paused account, beyond one pause, until a delivery is taken.
local anything_held = redis.call('EXISTS', key('pause'), key('circuit'), key('probes')) > 0

local function is_paused()
  return anything_held and redis.call('EXISTS', key('pause')) == 1
end

-- The open circuit, or nil.
local function read_circuit()
  local found = anything_held and redis.call('HMGET', key('circuit'), 'opened', 'next', 'slow', 'probes')
  return found and found[1] and {
    next_us = tonumber(found[2]) or 0, slow_us = tonumber(found[3]) or 0, probes = tonumber(found[4]) or 0,
  } or nil
end

local function note_probe(circuit)
  local probes = circuit.probes + 1
  local pause_s = 2 ^ math.min(probes - 1, 6)
  redis.call('HSET', key('circuit'), 'probes', probes,
    'next', text(now.account + math.min(3, pause_s) * 1000000),
    'slow', text(now.account + math.min(60, pause_s) * 1000000))
end
