-- The inbox: jobs that no worker has accepted yet.
-- `inbox` is a hash, job id → document; `inbox:live` and `inbox:bulk` are sorted sets, job id → its
-- arrival in microseconds; `inbox:taken` is a sorted set of `<lane> <arrival> <job id>` → the account
-- time until which one worker has it.
-- `arrivals` is the last arrival that was given: no two are the same, and they keep their order when
-- Redis's clock steps back by up to a minute.
local STEP_US = 60 * 1000000

local function leave_inbox(job, taken)
  redis.call('HDEL', key('inbox'), job)
  redis.call('ZREM', key('inbox:taken'), taken)
end

-- Where it is not known whether a worker has taken it. Answers the lane.
local function leave_inbox_untaken(job)
  redis.call('HDEL', key('inbox'), job)
  for _, lane in ipairs({ 'live', 'bulk' }) do
    if redis.call('ZREM', key('inbox:' .. lane), job) == 1 then
      return lane
    end
  end
  for _, entry in ipairs(redis.call('ZRANGE', key('inbox:taken'), 0, -1)) do
    local lane, taken = string.match(entry, '^(%a+) %d+ (.*)$')
    if taken == job then
      redis.call('ZREM', key('inbox:taken'), entry)
      return lane
    end
  end
end

local function last_arrival(at)
  local last = tonumber(redis.call('GET', key('arrivals')) or 0)
  return last <= at + STEP_US and last or 0
end
