-- What became of a job, once and for all.
-- `job:<id>` is the hash of a job that waits in a mailbox; `outcome:<id>` is the JSON of a settled one.
-- state/outcomes.py reads both, and says what the short names mean.
local HISTORY = 100 -- settled jobs listed for an email
local STREAM = 250000 -- settled jobs listed for an account
local COUNTED_S = 2 * 60 * 60 -- settled jobs are counted by the minute for so long

local SHORT = {
  email = 'e', lane = 'l', keys = 'k', attempts = 'n', http_status = 'h', message = 'm', warning = 'w',
  customers = 'c', occurred = 'o', accepted = 'a', sent = 't', document = 'd',
}
local ENDS_WELL = { delivered = true, superseded = true, unchanged = true }

-- Settles a job. `fields` are the job's last ones, over those of its hash. `arg.retention_s` and
-- `arg.keep_s` say how long the outcome is kept, the latter where it ended well.
local function settle_job(job, mailbox, status, fields)
  local found = redis.call('HGETALL', key('job:' .. job))
  local last = {}
  for i = 1, #found, 2 do
    last[found[i]] = found[i + 1]
  end
  for name, content in pairs(fields) do
    last[name] = content
  end
  local outcome = { s = status, x = text(now.redis) }
  for name, short in pairs(SHORT) do
    if last[name] and last[name] ~= '' then
      outcome[short] = last[name]
    end
  end
  redis.call('DEL', key('job:' .. job))
  redis.call('SET', key('outcome:' .. job), cjson.encode(outcome), 'EX',
    ENDS_WELL[status] and arg.keep_s or arg.retention_s)
  if mailbox then
    local email = key('email:' .. mailbox)
    local place = redis.call('HINCRBY', email, '@next', 1) % HISTORY
    redis.call('HSET', email, '@' .. place, job)
    redis.call('EXPIRE', email, arg.retention_s)
  end
  redis.call('XADD', key('outcomes'), 'MAXLEN', '~', STREAM, '*', 'job', job, 'status', status)
  local minute = key('counters:' .. text(math.floor(now.redis / 60000000)))
  if redis.call('HINCRBY', minute, status, 1) == 1 then
    redis.call('EXPIRE', minute, COUNTED_S)
  end
  redis.call('PUBLISH', key('settled:' .. job), status)
end
