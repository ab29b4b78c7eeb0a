-- What holds an account back as a whole.
-- `pause` is a hash: `by` account or operator, `reason`, `since`, and the `probe`'s time.
-- `circuit` is a hash: `emails` that failed in a row, no success between; `opened` when there were
-- many; `next` and `slow`, when an email that has not failed yet, and when another, may be the next probe;
-- `probes` and `slow_probes` made. It judges emails: one that fails alone, however often, counts once.
-- `probes` counts the pings of a paused account, beyond one pause, until a delivery is taken.
local anything_held = redis.call('EXISTS', key('pause'), key('circuit'), key('probes')) > 0

local function is_paused()
  return anything_held and redis.call('EXISTS', key('pause')) == 1
end

-- The open circuit, or nil.
local function read_circuit()
  local found = anything_held
    and redis.call('HMGET', key('circuit'), 'opened', 'next', 'slow', 'probes', 'slow_probes')
  return found and found[1] and {
    next_us = tonumber(found[2]) or 0, slow_us = tonumber(found[3]) or 0,
    probes = tonumber(found[4]) or 0, slow_probes = tonumber(found[5]) or 0,
  } or nil
end

-- Of emails that have not failed yet, a tenth of the pace for a minute, and then few; of the others, at
-- intervals from a second to a minute.
local MANY_PROBES = 240

local function note_probe(circuit, lane)
  if lane == 'failing' then
    local pause_s = math.min(60, 2 ^ math.min(circuit.slow_probes, 6))
    redis.call('HSET', key('circuit'), 'slow_probes', circuit.slow_probes + 1,
      'slow', text(now.account + pause_s * 1000000))
  else
    local pause_s = circuit.probes < MANY_PROBES and 0.25 or 3
    redis.call('HSET', key('circuit'), 'probes', circuit.probes + 1,
      'next', text(now.account + pause_s * 1000000))
  end
end
