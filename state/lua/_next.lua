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
local LOOK_US = 20000 -- what has fallen due is looked for so often
local FAILING_SHARE = 0.1 -- of the deliveries, while other emails wait
local MOVED = 5 -- mailboxes that one look moves to their lanes

local superseded, damaged = {}, 0 -- jobs that were settled on the way; entries that belonged to nothing

-- Mailboxes whose time has come, or whose lease has ended, go to their lanes.
local function refill()
  local due = redis.call('ZRANGEBYSCORE', key('later'), '-inf', text(now.later), 'LIMIT', 0, MOVED)
  for _, mailbox in ipairs(due) do
    make_due(mailbox, 0, 'later')
  end
  local expired = redis.call('ZRANGEBYSCORE', key('leases'), '-inf', text(now.account), 'LIMIT', 0, MOVED)
  for _, mailbox in ipairs(expired) do
    end_lease(mailbox, true)
    redis.call('HDEL', key('mailbox:' .. mailbox), '@lease')
    make_due(mailbox, 0)
  end
end

local function anything_due()
  return redis.call('EXISTS', key('due:live'), key('due:bulk'), key('due:failing')) > 0
end

-- Takes the first email out of a lane.
local pop = {}

function pop.live()
  return redis.call('ZPOPMIN', key('due:live'))[1]
end

-- While more bulk jobs come in, a bulk email gathers them for a while.
function pop.bulk(options)
  local head = redis.call('ZRANGE', key('due:bulk'), 0, 0, 'WITHSCORES')
  local age_us = now.redis - (tonumber(head[2]) or 0)
  local gathers = head[1] and age_us >= 0 and age_us < options.gather_us
    and redis.call('EXISTS', key('inbox:bulk'), key('inbox:taken')) > 0
  if head[1] and not gathers then
    redis.call('ZREM', key('due:bulk'), head[1])
    return head[1]
  end
end

-- Emails on which the server fails take up half of the places at most.
function pop.failing(options)
  if redis.call('ZCARD', key('leases:failing')) < math.max(1, options.max_parallel / 2) then
    return redis.call('ZPOPMIN', key('due:failing'))[1]
  end
end

-- Whether the next claim is one of the share of all, evenly spread.
local function is_turn(share, offset)
  local claims = pace.claims or 0
  return math.floor((claims + 1) * share + offset) > math.floor(claims * share + offset)
end

local function pop_first(lanes, options)
  for _, lane in ipairs(lanes) do
    local mailbox = pop[lane](options)
    if mailbox then
      return mailbox, lane
    end
  end
end

-- Live before bulk, and both before emails on which the server failed last; but these two have a share.
local function pop_due(options)
  if is_turn(options.bulk_share, 0) then
    return pop_first({ 'bulk', 'live', 'failing' }, options)
  elseif is_turn(FAILING_SHARE, 0.5) then
    return pop_first({ 'failing', 'live', 'bulk' }, options)
  end
  return pop_first({ 'live', 'bulk', 'failing' }, options)
end

-- While the circuit is open, one email at a time is a probe: often one that has not failed yet, seldom
-- another. The newest of a lane: where some emails alone fail, others like them are ahead of what came
-- since, and each would cost a probe.
local function pop_probe(options, circuit)
  for _, lane in ipairs(circuit.next_us <= now.account and { 'live', 'bulk' } or {}) do
    local newest = redis.call('ZPOPMAX', key('due:' .. lane))[1]
    if newest then
      return newest, lane
    end
  end
  if circuit.slow_us <= now.account then
    return pop_first({ 'failing' }, options)
  end
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
    local fields = redis.pcall('HGETALL', key('job:' .. job.id))
    if fields.err or #fields == 0 then
      damaged = damaged + 1 -- its record is lost, and the email with it
      redis.call('HDEL', key('mailbox:' .. claim.mailbox), '#' .. job.number, unpack(job.keys))
    else
      local whole = true
      for n, name in ipairs(job.keys) do
        local payload = box.values[name].payload
        bytes = bytes + #name + #payload + 40
        if n > 1 and (#claim.values >= options.max_attributes or bytes > options.max_bytes) then
          whole = false
        end
        local values = whole and claim.values or claim.unsent
        values[#values + 1] = { key = name, version = job.version, payload = payload }
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
      settle_job(job.id, id, job.in_part and 'delivered' or 'superseded', {})
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
    note_email(name, version .. '-')
  end
  write_email(id)
end

local function claim_mailbox(mailbox, lane, token, options)
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
    values = {}, unsent = {}, jobs = {} }
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

-- Claims the next email that has anything to send. Answers nil where there is none.
local function claim_next(options, token, circuit)
  for _ = 1, 10 do
    local mailbox, lane
    if circuit then
      mailbox, lane = pop_probe(options, circuit)
    else
      mailbox, lane = pop_due(options)
    end
    local claim = mailbox and claim_mailbox(mailbox, lane, token, options)
    if claim or not mailbox then
      return claim, lane
    end
  end
end

-- Reserves the time `at`, which has not come yet, unless enough others wait.
local function wait_for(options, at, circuit, looked)
  local due = anything_due()
  if not due and not looked then
    refill()
    due = anything_due()
  end
  if not due or circuit and math.min(circuit.next_us, circuit.slow_us) > at then
    return idle(nil, circuit and 'circuit open' or 'nothing due')
  elseif at - now.account > AHEAD_US then
    return idle(nil, 'the next time is far')
  end
  if redis.call('ZCARD', key('waiting')) >= OTHERS then
    return idle(nil, 'enough others wait')
  end
  local token = options.stint .. '.' .. text(at)
  reserve(token, at)
  redis.call('ZADD', key('waiting'), text(at), token)
  return { kind = 'wait', reserved = token, wait_us = at - now.account }
end

local function reserve_or_claim(options)
  local token = options.reserved
  local at = token and tonumber(redis.call('ZSCORE', key('waiting'), token) or nil)
  if at and at - now.account > NOW_US then
    return { kind = 'wait', reserved = token, wait_us = at - now.account }
  end
  token = at and token
  if is_paused() then
    return idle(token, 'paused')
  end
  local looks = now.account - (pace.looked or 0) >= LOOK_US
  local full = redis.call('ZCARD', key('leases')) >= options.max_parallel
  if looks or full then
    set_pace('looked', now.account)
    refill()
    redis.call('ZREMRANGEBYRANK', key('ledger'), 0, -MANY - 10)
    redis.call('ZREMRANGEBYSCORE', key('waiting'), '-inf', text(now.account - DEAD_US))
    full = full and redis.call('ZCARD', key('leases')) >= options.max_parallel
  end
  if full then
    return idle(token, 'no room')
  end
  local circuit = read_circuit()
  -- A reservation that a hold or a long stall has overtaken is made anew.
  if token and (now.account - at > LATE_US or (pace.hold or 0) > now.account) then
    idle(token)
    token = nil
  end
  if token then
    local wait_us = check_late(token, at, options.rate_limit)
    if wait_us > NOW_US then
      redis.call('ZADD', key('waiting'), text(now.account + wait_us), token)
      return { kind = 'wait', reserved = token, wait_us = wait_us }
    end
  else
    at = send_time(options.rate_limit)
    if at - now.account > NOW_US then
      return wait_for(options, at, circuit, looks)
    end
  end
  local own = token or options.stint .. '.' .. text(at)
  local claim, lane = claim_next(options, own, circuit)
  if not claim and not looks then
    refill()
    claim, lane = claim_next(options, own, circuit)
  end
  if not claim then
    return idle(token, circuit and 'circuit open' or 'nothing due')
  end
  if token then
    redis.call('ZREM', key('waiting'), token)
  else
    reserve(own, at)
  end
  set_pace('claims', ((pace.claims or 0) + 1) % 1000000)
  if circuit then
    note_probe(circuit, lane)
  end
  -- Others are due and nobody waits behind this one: another stint is needed.
  claim.ask = looks and anything_due() and redis.call('ZCARD', key('waiting')) == 0
  claim.inbox = looks and redis.call('EXISTS', key('inbox:live'), key('inbox:bulk')) > 0
  return claim
end

local function next_delivery(options)
  local found = reserve_or_claim(options)
  found.superseded, found.damaged = superseded, damaged
  return found
end
