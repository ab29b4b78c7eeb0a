-- depart: a request that `claim` counted is late, since it had to connect first or its worker was
-- stalled: it is planned anew.
-- ARGV: requests a second allowed, the time at which it was counted as sent
-- Answers the time to leave in microseconds, at which it is counted now, and in how many milliseconds
-- that is.
redis.call('LREM', key('sent'), 1, ARGV[2])
return leave_at(tonumber(ARGV[1]), now_us())
