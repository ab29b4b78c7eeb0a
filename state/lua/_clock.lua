-- The account's time, and the time of what waits, from Redis's clock, which may step.
-- `account` never goes back, and counts a gap or a jump ahead as two seconds: the ledger of send times,
--   holds, leases and rests are counted in it. It is never compared with another machine's clock.
-- `later` takes up steps back only: it passes while nothing runs, and a step ahead makes it early.
--   Retries wait in it.
-- `clock` holds the last time seen, and what to add to Redis's time for each of the two.
local GAP_US = 2000000 -- more than this between two looks is a gap, or a jump ahead
local FRESH_US = 250000 -- the last time seen is written anew when it is older

-- `looking`: write nothing, for who only looks.
local function read_clock(looking)
  local at = now.redis
  local found = redis.call('HMGET', key('clock'), 'seen', 'offset', 'back')
  local seen, offset, back = tonumber(found[1]), tonumber(found[2]) or 0, tonumber(found[3]) or 0
  local passed = at - (seen or at)
  if passed < 0 then
    offset, back = offset - passed, back - passed
  elseif passed > GAP_US then
    offset = offset - (passed - GAP_US)
  end
  if not looking and (not seen or passed < 0 or passed > FRESH_US) then
    redis.call('HSET', key('clock'), 'seen', text(at), 'offset', text(offset), 'back', text(back))
  end
  now.account, now.later = at + offset, at + back
end
