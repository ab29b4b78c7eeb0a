-- What an answer says of the account as a whole: its pace, its server, its key.
local EMAILS = 10 -- different emails that open the circuit
local KEPT_S = 2 * 60 * 60

-- The share of 429s among the requests, the last seconds counting most.
local HALF_S = 2 -- what is older than this counts half

local function share_of_429s(allowed)
  local fading = 0.5 ^ (math.max(0, now.account - (pace.objected or 0)) / (HALF_S * 1000000))
  set_pace('limited', (pace.limited or 0) * fading + 1)
  return pace.limited / math.max(60, current_rate(allowed) * HALF_S / math.log(2))
end

local function fewer_requests(answer)
  local share = share_of_429s(answer.rate_limit)
  set_pace('objected', now.account)
  set_pace('holds', (pace.holds or 0) + 1)
  local hold_us = answer.retry_after_us or math.min(60000, 25 * 2 ^ math.min(pace.holds, 12)) * 1000
  set_pace('hold', math.max(pace.hold or 0, now.account + hold_us))
  -- One alone is a request that was late on its way, and crowded a second that was not its own.
  if share > 0.02 then
    local rate = current_rate(answer.rate_limit)
    set_pace('rate', math.max(answer.rate_limit / 100, rate * (1 - math.max(share, 0.03))))
    set_pace('at', now.account)
    set_pace('ceiling', rate)
    set_pace('cut', now.account)
  end
end

local function server_failed(answer)
  local circuit = key('circuit')
  local emails = answer.fresh and redis.call('HINCRBY', circuit, 'emails', 1) or 0
  redis.call('HSET', circuit, 'reason', answer.reason)
  if emails >= EMAILS and redis.call('HSETNX', circuit, 'opened', text(now.redis)) == 1 then
    redis.call('HSET', circuit, 'next', text(now.account + 250000), 'slow', text(now.account + 1000000))
  end
  redis.call('EXPIRE', circuit, KEPT_S)
  anything_held = true
end

-- How long until a paused account is asked again. Probes are counted beyond one pause, until a
-- delivery is taken: an account that answers a ping and refuses the rest is asked less and less.
local function probe_delay_us(delays_us)
  local made = tonumber(redis.call('GET', key('probes')) or 0)
  return delays_us[math.min(1 + made, #delays_us)]
end

-- arg.answer: kind, class (for counting), took_us (if anything was answered), claimed_us (account time of
--   the claim), rate_limit, retry_after_us, reason, fresh (the email had not failed before); and of a fault of
--   the account: code (what came back), probe_delays_us
-- Answers whether this answer paused the account.
local function observe(answer)
  local kind = answer.kind
  -- A 429 of a request that was under way when another was answered says nothing new: both come of
  -- the same crowded second.
  if kind == 'pace' and tonumber(answer.claimed_us) > (pace.objected or 0) then
    fewer_requests(answer)
  elseif kind ~= 'pace' and pace.holds then
    set_pace('holds', nil)
  end
  if kind == 'server' then
    server_failed(answer)
  elseif kind == 'account' then
    redis.call('DEL', key('circuit'))
    if redis.call('EXISTS', key('pause')) == 0 then
      redis.call('HSET', key('pause'), 'by', 'account', 'reason', answer.reason, 'code', answer.code,
        'since', text(now.redis), 'probe', text(now.later + probe_delay_us(answer.probe_delays_us)))
      anything_held = true
      return true
    end
  elseif kind ~= 'pace' and anything_held then
    redis.call('DEL', key('circuit'), key('probes'))
  end
  return false
end
