-- What became of a job, once and for all. Needs `counts`.
-- `job:<id>` is the hash of a job that waits in a mailbox; `outcome:<id>` is the JSON of a settled one.
-- state/outcomes.py reads both, and says what the short names mean.
-- `email:<id>` is a hash: what is known of an email. A key → the version that ChartMogul took last, and
-- a digest of the value ('-' if it was not seen); `@<place>` → a settled job, `@n` how many there were.
local HISTORY = 100 -- settled jobs listed for an email
local STREAM = 250000 -- settled jobs listed for an account
local EXACT = 10000000000000 -- cjson writes whole numbers below this exactly

local SHORT = {
  email = 'e', lane = 'l', keys = 'k', attempts = 'n', http_status = 'h', message = 'm', warning = 'w',
  customers = 'c', occurred = 'o', accepted = 'a', sent = 't', settled = 'x', document = 'd', arrived = 'r',
  reason = 'b',
}
-- What most delivered jobs have is left out.
local USUAL = { s = 'delivered', l = 'live', n = '1', h = '200' }
local ENDS_WELL = { delivered = true, superseded = true, unchanged = true }

local email_fields = {} -- to be written by `write_email`

local function note_email(name, content)
  email_fields[#email_fields + 1] = name
  email_fields[#email_fields + 1] = content
end

local function write_email(mailbox)
  if #email_fields > 0 then
    in_slices('HSET', key('email:' .. mailbox), email_fields)
    redis.call('EXPIRE', key('email:' .. mailbox), arg.retention_s)
    email_fields = {}
  end
end

-- Times of an outcome are counted from its acceptance, as far as that is shorter.
local function shortened(outcome)
  for _, name in ipairs({ 'o', 't', 'x' }) do
    local passed = outcome[name] and outcome[name] - outcome.a
    if passed and math.abs(passed) < EXACT then
      outcome[name] = passed
    end
  end
  for name, usual in pairs(outcome.s == USUAL.s and USUAL or {}) do
    if outcome[name] == usual then
      outcome[name] = nil
    end
  end
  outcome.c = outcome.c and cjson.decode(outcome.c)
  return cjson.encode(outcome)
end

-- Settles a job. `fields` are the job's last ones, over those of its hash. `arg.retention_s` and
-- `arg.keep_s` say how long the outcome is kept, the latter where it ended well. What belongs to the
-- email is written by `write_email`, and what is counted by `write_counts`. `lane` is where the job was
-- in the inbox, if its hash does not say it.
local function settle_job(job, mailbox, status, fields, lane)
  local found = redis.call('HGETALL', key('job:' .. job))
  local last = { settled = text(now.redis) }
  for i = 1, #found, 2 do
    last[found[i]] = found[i + 1]
  end
  for name, content in pairs(fields) do
    last[name] = content
  end
  last.accepted = last.accepted or last.settled
  if ENDS_WELL[status] then
    last.reason = nil
  end
  lane = last.lane or lane or 'live'
  count('jobs:' .. lane .. ':' .. status .. ':' .. (last.reason or ''))
  if status == 'delivered' then
    noted.delivered_at = last.settled
    count('delivered')
    count_time('delay:' .. lane, math.max(0, now.redis - (last.arrived or last.occurred or now.redis)))
  end
  if not (last.occurred and tonumber(last.occurred) > tonumber(last.accepted)) then
    last.arrived = nil -- only of use where the job's time lies ahead
  end
  local outcome = { s = status }
  for name, short in pairs(SHORT) do
    if last[name] ~= '' then
      outcome[short] = last[name]
    end
  end
  if #found > 0 then
    redis.call('DEL', key('job:' .. job))
  end
  redis.call('SET', key('outcome:' .. job), shortened(outcome), 'EX',
    ENDS_WELL[status] and arg.keep_s or arg.retention_s)
  if mailbox then
    note_email('@' .. redis.call('HINCRBY', key('email:' .. mailbox), '@n', 1) % HISTORY, job)
  end
  redis.call('XADD', key('outcomes'), 'MAXLEN', '~', STREAM, '*', 'job', job, 'status', status)
  redis.call('PUBLISH', key('settled:' .. job), status)
end
