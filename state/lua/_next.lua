-- The next delivery of a stint: first a time is reserved, then, when it has come, an email is claimed.
-- Who waits for a time holds nothing else, so what leaves is the newest there is, and a live job
-- overtakes bulk to the last moment.
-- `waiting` is a sorted set: token of a reservation → the account time that is reserved.
-- arg.next: stint, reserved (its token, if it has one), rate_limit, max_parallel, lease_us, bulk_share,
--   gather_us, max_attributes, max_bytes
-- Answers { kind = 'claim', … }; { kind = 'wait', reserved, wait_us }; or { kind = 'idle', why }: there is
-- nothing for this stint to do. Beside it `superseded` and `damaged`.
local OTHERS = 6 -- more stints than this need not wait for a time
local NOW_US = 1000 -- a time as near as this has come
local LATE_US = 100000 -- a reservation is used until then
local DEAD_US = 2000000 -- who reserved a time and did not come by then has died
local MOVED = 5 -- mailboxes that one call moves to their lanes

local superseded, damaged = {}, 0 -- jobs that were settled on the way; entries that belonged to nothing

local function refill()
  local due = redis.call('ZRANGEBYSCORE', key('later'), '-inf', text(now.later), 'LIMIT', 0, MOVED)
  for _, mailbox in ipairs(due) do
    make_due(mailbox, 0, 'later')
  end
  local expired = redis.call('ZRANGEBYSCORE', key('leases'), '-inf', text(now.account), 'LIMIT', 0, MOVED)
  for _, mailbox in ipairs(expired) do
    end_lease(mailbox)
    make_due(mailbox, 0)
  end
end

-- The first email of each lane. While more bulk jobs come in, a bulk email gathers them for a while.
local function lane_heads(options)
  local heads = { live = redis.call('ZRANGE', key('due:live'), 0, 0)[1] }
  local bulk = redis.call('ZRANGE', key('due:bulk'), 0, 0, 'WITHSCORES')
  local age_us = now.redis - (tonumber(bulk[2]) or 0)
  local gathers = bulk[1] and age_us >= 0 and age_us < options.gather_us
    and redis.call('EXISTS', key('inbox:bulk')) == 1
  heads.bulk = not gathers and bulk[1] or nil
  local failing = redis.call('ZRANGE', key('due:failing'), 0, 0)[1]
  if failing and redis.call('ZCARD', key('leases:failing')) < math.max(1, options.max_parallel / 2) then
    heads.failing = failing
  end
  return heads
end

-- Live before bulk, and emails on which the server failed last; but those two have a share.
local function choose_lane(heads, share)
  local first = heads.live and 'live' or heads.bulk and 'bulk' or heads.failing and 'failing'
  for _, lane in ipairs({ 'bulk', 'failing' }) do
    if heads[lane] and lane ~= first then
      local turn = pace['turn_' .. lane] or 0
      if turn > 0.999 then
        set_pace('turn_' .. lane, turn - 1)
        return lane
      end
      set_pace('turn_' .. lane, turn + share / (1 - share))
    end
  end
  return first
end

-- While the circuit is open, one email at a time is a probe: soon one that has not failed yet, seldom
-- any other.
local function probe_lane(heads, circuit)
  if heads.live and circuit.next_us <= now.account then
    return 'live'
  elseif circuit.slow_us <= now.account then
    return heads.bulk and 'bulk' or heads.failing and 'failing'
  end
end

local function read_circuit()
  local found = redis.call('HMGET', key('circuit'), 'opened', 'next', 'slow', 'probes')
  return found[1] and {
    next_us = tonumber(found[2]) or 0, slow_us = tonumber(found[3]) or 0, probes = tonumber(found[4]) or 0,
  }
end

-- Jobs of a mailbox for one request: those that failed alone come last, and go alone.
local function choose_jobs(box)
  local jobs = {}
  for number, job in pairs(box.jobs) do
    job.number = number
    jobs[#jobs + 1] = job
  end
  table.sort(jobs, function(a, b)
    if a.failed ~= b.failed then
      return b.failed
    end
    return a.version < b.version
  end)
  return jobs
end

-- Fills `claim` with the values of as many jobs as one request takes. A job with more values than
-- fit is sent in several requests.
local function fill_claim(claim, box, options)
  local batch = tonumber(box.state.batch) or 1 / 0
  local bytes, count = 0, 0
  for _, job in ipairs(choose_jobs(box)) do
    local size = 0
    for _, name in ipairs(job.keys) do
      size = size + #name + #box.values[name].payload + 40
    end
    if count > 0 and (count >= batch or job.failed or claim.jobs[1].failed
      or #claim.values + #job.keys > options.max_attributes or bytes + size > options.max_bytes) then
      break
    end
    local fields = redis.call('HGETALL', key('job:' .. job.id))
    if #fields == 0 then
      damaged = damaged + 1 -- its record is lost, and the email with it
      redis.call('HDEL', key('mailbox:' .. claim.mailbox), '#' .. job.number, unpack(job.keys))
    else
      local whole = true
      for n, name in ipairs(job.keys) do
        local payload = box.values[name].payload
        bytes = bytes + #name + #payload + 40
        if n > 1 and (#claim.values >= options.max_attributes or bytes > options.max_bytes) then
          whole = false
          break
        end
        claim.values[#claim.values + 1] = { key = name, version = job.version, payload = payload }
      end
      count = count + 1
      claim.jobs[count] = { id = job.id, fields = fields, whole = whole, failed = job.failed }
      if not whole then
        break
      end
    end
  end
end

-- Settles jobs of which nothing is left to send, since newer ones came while a request was in flight
-- that was never judged; and removes what belongs to no job.
local function tidy(id, box)
  local mailbox = key('mailbox:' .. id)
  for number, job in pairs(box.jobs) do
    if #job.keys == 0 then
      redis.call('HDEL', mailbox, '#' .. number)
      settle_job(job.id, id, 'superseded', {})
      superseded[#superseded + 1] = job.id
      box.jobs[number] = nil
    end
  end
  for _, name in ipairs(box.damaged) do
    redis.call('HDEL', mailbox, name)
  end
  damaged = damaged + #box.damaged
  -- What a request carried that was never judged may have been taken: nothing older may follow it.
  for name, version in string.gmatch(box.state.sending or '', '([%w_]+)=([^,]+)') do
    redis.call('HSET', key('email:' .. id), name, version .. '-')
    redis.call('EXPIRE', key('email:' .. id), arg.retention_s)
  end
end

local function claim_mailbox(mailbox, lane, token, options)
  redis.call('ZREM', key('due:' .. lane), mailbox)
  local box = read_mailbox(mailbox)
  local rest_us = (tonumber(box.state.rest) or 0) - now.account
  if rest_us > 0 and next(box.jobs) then
    make_due(mailbox, rest_us)
    return nil
  end
  tidy(mailbox, box)
  local claim = { kind = 'claim', mailbox = mailbox, token = token,
    redis_us = text(now.redis), account_us = text(now.account),
    failures = tonumber(box.state.failures) or 0, batch = tonumber(box.state.batch) or 0,
    values = {}, jobs = {} }
  fill_claim(claim, box, options)
  if #claim.jobs == 0 then -- nothing is left, or its records are lost
    local left = redis.call('HLEN', key('mailbox:' .. mailbox)) > 0 and next(read_mailbox(mailbox).jobs)
    if left then
      make_due(mailbox, 0)
    elseif rest_us <= 0 then
      redis.call('DEL', key('mailbox:' .. mailbox))
    end
    return nil
  end
  local sending = {}
  for i, value in ipairs(claim.values) do
    sending[i] = value.key .. '=' .. value.version
  end
  redis.call('HSET', key('mailbox:' .. mailbox), '@lease', token, '@sending', table.concat(sending, ','))
  redis.call('ZADD', key('leases'), text(now.account + options.lease_us), mailbox)
  if lane == 'failing' then
    redis.call('ZADD', key('leases:failing'), text(now.account + options.lease_us), mailbox)
  end
  return claim
end

local function idle(token, why)
  if token then
    redis.call('ZREM', key('waiting'), token)
    redis.call('ZREM', key('ledger'), token) -- the time is given back
  end
  return { kind = 'idle', why = why }
end

local function reserve_or_claim(options)
  local token = options.reserved
  local at = token and tonumber(redis.call('ZSCORE', key('waiting'), token) or nil)
  if not at then
    token = nil
  elseif at - now.account > NOW_US then
    return { kind = 'wait', reserved = token, wait_us = at - now.account }
  end
  if redis.call('EXISTS', key('pause')) == 1 then
    return idle(token, 'paused')
  end
  if redis.call('ZCARD', key('leases')) >= options.max_parallel then
    refill() -- leases may have ended
    if redis.call('ZCARD', key('leases')) >= options.max_parallel then
      return idle(token, 'no room')
    end
  end
  refill()
  local heads = lane_heads(options)
  local circuit = read_circuit()
  if not next(heads) or circuit and not probe_lane(heads, circuit) then
    return idle(token, next(heads) and 'circuit open' or 'nothing due')
  end
  -- A reservation that a hold or a long stall has overtaken is made anew.
  if token and (now.account - at > LATE_US or (pace.hold or 0) > now.account) then
    idle(token)
    token = nil
  end
  if not token then
    redis.call('ZREMRANGEBYSCORE', key('waiting'), '-inf', text(now.account - DEAD_US))
    if redis.call('ZCARD', key('waiting')) >= OTHERS then
      return idle(nil, 'enough others wait')
    end
    at = send_time(options.rate_limit)
    if at - now.account > AHEAD_US then
      return idle(nil, 'the next time is far')
    end
    token = options.stint .. '.' .. text(at)
    reserve(token, at, options.rate_limit)
    if at - now.account > NOW_US then
      redis.call('ZADD', key('waiting'), text(at), token)
      return { kind = 'wait', reserved = token, wait_us = at - now.account }
    end
  else
    local wait_us = check_late(token, at, options.rate_limit)
    if wait_us > NOW_US then
      redis.call('ZADD', key('waiting'), text(now.account + wait_us), token)
      return { kind = 'wait', reserved = token, wait_us = wait_us }
    end
  end

  local claim
  for _ = 1, 10 do
    local lane
    if circuit then
      lane = probe_lane(heads, circuit)
    else
      lane = choose_lane(heads, options.bulk_share)
    end
    if not lane then
      break
    end
    claim = claim_mailbox(heads[lane], lane, token, options)
    if claim then
      break
    end
    heads = lane_heads(options)
  end
  if not claim then
    return idle(token, 'nothing due')
  end
  redis.call('ZREM', key('waiting'), token)
  if circuit then
    local probes = circuit.probes + 1
    redis.call('HSET', key('circuit'), 'probes', probes,
      'next', text(now.account + math.min(3, 2 ^ math.min(probes - 1, 6)) * 1000000),
      'slow', text(now.account + math.min(60, 2 ^ math.min(probes - 1, 6)) * 1000000))
  end
  -- Others are due and nobody waits behind this one: another stint is needed.
  claim.ask = redis.call('EXISTS', key('due:live'), key('due:bulk'), key('due:failing')) > 0
    and redis.call('ZCARD', key('waiting')) == 0
  claim.inbox = redis.call('EXISTS', key('inbox:live'), key('inbox:bulk')) > 0
  return claim
end

local function next_delivery(options)
  local found = reserve_or_claim(options)
  found.superseded, found.damaged = superseded, damaged
  return found
end
