-- take: jobs of the inbox for one worker to accept, live ones first. No other worker gets them
-- meanwhile; those that are still there after a time are taken again.
-- ARGV: how many at most, milliseconds until they may be taken again
-- Answers { job id, document, ... }.
local inbox = key('inbox')
local now = math.floor(now_us() / 1000)
local limit = tonumber(ARGV[1])
local lanes = { key('inbox:live'), key('inbox:bulk') }

-- An entry without a time was put there by something that died between two steps.
if redis.call('HLEN', inbox) > redis.call('ZCARD', lanes[1]) + redis.call('ZCARD', lanes[2]) then
  for _, job in ipairs(redis.call('HRANDFIELD', inbox, limit)) do
    if not redis.call('ZSCORE', lanes[1], job) then
      redis.call('ZADD', lanes[2], 'NX', now, job)
    end
  end
end

local taken = {}
for _, lane in ipairs(lanes) do
  local free = limit - #taken / 2
  if free > 0 then
    for _, job in ipairs(redis.call('ZRANGEBYSCORE', lane, '-inf', now, 'LIMIT', 0, free)) do
      local document = redis.call('HGET', inbox, job)
      if document then
        redis.call('ZADD', lane, now + ARGV[2], job)
        taken[#taken + 1] = job
        taken[#taken + 1] = document
      else
        redis.call('ZREM', lane, job) -- a time without an entry, likewise
      end
    end
  end
end
return taken
