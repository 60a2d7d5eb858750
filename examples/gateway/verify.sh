#!/usr/bin/env bash
# Checks that a running gateway does what its README says: a PASS or FAIL line per behaviour.
#
#   examples/gateway/verify.sh [GATEWAY_URL] [BACKEND_URL]
#
# It needs bash and curl, and a backend of ours (it changes the backend's behaviour, and puts it
# back). If the gateway was started with other settings than the defaults, give this script the same
# environment. With the defaults it takes two to three minutes, most of it waiting for the breaker
# and for the rate limit's window. It wants a gateway that has just been started, and nobody else
# may use it meanwhile. One that has been used is told of at the start: what earlier requests have
# left behind (a used-up limit, an open breaker) is waited for.
# Exit code: 0 all passed, 1 something failed, 2 could not be checked.
set -u
export LC_ALL=C

GATEWAY=${1:-http://127.0.0.1:8080}
BACKEND=${2:-${BACKEND_URL:-http://127.0.0.1:9000}}
DATA=${GATEWAY%/}/api/v1/data
BEHAVIOUR=${BACKEND%/}/behaviour

# 0.5 -> 500
ms() {
  local whole=${1%%.*} part=000
  [[ $1 == *.* ]] && part=${1#*.}000
  echo $((10#${whole:-0} * 1000 + 10#${part:0:3}))
}
# 500 -> 0.500
sec() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

RETRIES=${MAX_RETRIES:-3}
THRESHOLD=${FAILURE_THRESHOLD:-5}
QUOTA=${RATE_LIMIT_REQUESTS_PER_WINDOW:-100}
WINDOW=$(ms "${RATE_LIMIT_WINDOW_SECONDS:-60}")
RECOVERY=$(ms "${RECOVERY_TIMEOUT_SECONDS:-30}")
TIMEOUT=$(ms "${REQUEST_TIMEOUT_SECONDS:-2}")

# The longest a request can take: every attempt times out, every wait is a full one.
LONGEST=$((TIMEOUT + 5000))
wait_ms=$(ms "${INITIAL_BACKOFF_SECONDS:-0.5}")
for ((i = 0; i < RETRIES; i++)); do
  LONGEST=$((LONGEST + TIMEOUT + wait_ms))
  wait_ms=$((wait_ms * $(ms "${BACKOFF_MULTIPLIER:-2}") / 1000))
done

TMP=$(mktemp -d) || exit 2
passed=0 failed=0

# --- asking ---------------------------------------------------------------------------------------

# ask CURL-ARGUMENTS...: sets status, took (ms), body and head.
ask() {
  local out
  out=$(curl -s --max-time "$(sec "$LONGEST")" -o "$TMP/body" -D "$TMP/head" \
    -w '%{http_code} %{time_total}' "$@")
  status=${out% *} took=$(ms "${out#* }")
  body=$(cat "$TMP/body" 2>/dev/null) head=$(tr -d '\r' <"$TMP/head" 2>/dev/null)
}

# field NAME: the value of a header field of the last answer.
field() {
  local name value
  while IFS=: read -r name value; do
    [[ ${name,,} == "${1,,}" ]] && { echo "${value# }"; return; }
  done <<<"$head"
}

# burst N: sends N requests at once, sets codes.
burst() {
  (($1 == 0)) && { codes=; return; }
  codes=$(curl -s -Z --parallel-immediate --parallel-max 50 --max-time "$(sec "$LONGEST")" -o /dev/null \
    -w '%{http_code} ' "$DATA?n=[1-$1]" 2>/dev/null)
}

# count CODE: how many of codes are it.
count() {
  local code n=0
  for code in $codes; do [[ $code == "$1" ]] && n=$((n + 1)); done
  echo "$n"
}

metric() {
  local json
  json=$(curl -s --max-time 5 "${GATEWAY%/}/metrics")
  [[ $json =~ \"$1\":\ *\"?([A-Z_0-9]+) ]] && echo "${BASH_REMATCH[1]}"
}

# behave FAILURE_RATE SLOW_RATE DELAY_SECONDS
behave() {
  curl -sf --max-time 5 -o /dev/null -X PUT -H 'content-type: application/json' \
    -d "{\"failure_rate\":$1,\"slow_rate\":$2,\"delay_seconds\":$3}" "$BEHAVIOUR"
}

pause() { sleep "$(sec $(($1 + 50)))"; }

# room N: waits, if need be, until the rate limit will let N more requests in.
spent=0
room() {
  if ((spent + $1 > QUOTA)); then
    pause "$WINDOW"
    spent=0
  fi
  spent=$((spent + $1))
}

# data: one request, with room for it.
data() {
  room 1
  ask "$DATA"
}

# until_metric NAME VALUE: waits for it, at most five seconds.
until_metric() {
  local i
  for ((i = 0; i < 100; i++)); do
    [[ $(metric "$1") == "$2" ]] && return
    sleep 0.05
  done
  return 1
}

# check WHAT CONDITION: a PASS or a FAIL line. The condition is a bash expression.
check() {
  if eval "$2"; then
    echo "PASS  $1"
    passed=$((passed + 1))
  else
    echo "FAIL  $1  (status $status after ${took} ms, breaker $(metric circuit_breaker_state))"
    failed=$((failed + 1))
  fi
}

finish() {
  [[ -n ${before:-} ]] && curl -s --max-time 5 -o /dev/null -X PUT -d "$before" "$BEHAVIOUR"
  rm -rf "$TMP"
}
trap finish EXIT
trap 'exit 130' INT TERM

# --- can it be checked? ---------------------------------------------------------------------------

ask "${GATEWAY%/}/health"
[[ $status != 000 ]] || { echo "no gateway answers at $GATEWAY" >&2; exit 2; }
before=$(curl -sf --max-time 5 "$BEHAVIOUR") ||
  { echo "no backend of ours answers at $BACKEND" >&2; exit 2; }
((QUOTA >= THRESHOLD)) || { echo "a quota below the threshold cannot be checked" >&2; exit 2; }

# Both of `/metrics`; nothing else tells how much has gone before.
allowed=$(metric rate_limit_allowed) blocked=$(metric rate_limit_blocked)
earlier=$((${allowed:-0} + ${blocked:-0}))
if ((earlier > 0)); then
  echo "NOTE  this gateway is not fresh (requests before this run: $earlier): the checks may have to"
  echo "      wait for what those left. If one fails, or to be quicker: stop the gateway, start it anew,"
  echo "      and run this again."
fi

# --- the paths around it --------------------------------------------------------------------------

ask "${GATEWAY%/}/health"
check 'GET /health answers {"status":"ok"}' '[[ $status == 200 && $body == "{\"status\":\"ok\"}" ]]'

ask "${GATEWAY%/}/metrics"
check 'GET /metrics has the four keys in JSON' '[[ $status == 200 && $(field content-type) == application/json*
  && $body =~ \"circuit_breaker_state\":\ *\"(CLOSED|OPEN|HALF_OPEN)\" && $body =~ \"total_retries\":\ *[0-9]
  && $body =~ \"rate_limit_allowed\":\ *[0-9] && $body =~ \"rate_limit_blocked\":\ *[0-9] ]]'

ask -H 'Accept: text/plain' "${GATEWAY%/}/metrics"
check 'GET /metrics is Prometheus text for who asks for it' \
  '[[ $status == 200 && $(field content-type) == text/plain* && $body == *"# TYPE "* ]]'

ask "${GATEWAY%/}/no/such/path"
check 'an unknown path is 404, in a problem document' \
  '[[ $status == 404 && $(field content-type) == application/problem+json ]]'
ask -X DELETE "$DATA"
check 'a wrong method is 405' '[[ $status == 405 ]]'

# --- success --------------------------------------------------------------------------------------

behave 0 0 0
ask "$DATA"
if [[ $status == 429 ]]; then
  echo "      (the limit is used up: waiting for its window to pass)"
  pause "$WINDOW"
  ask "$DATA"
fi
# What earlier requests have left of the quota.
if [[ $(field ratelimit) =~ r=([0-9]+) ]]; then spent=$((QUOTA - BASH_REMATCH[1])); else spent=1; fi
if [[ $status == 503 ]]; then
  echo "      (the breaker is open: waiting for its recovery timeout)"
  pause "$RECOVERY"
  data
fi
direct=$(curl -s --max-time 5 -w '%{content_type}' "${BACKEND%/}/flaky-data")
check 'a success is 200 with the body and content type of the backend' \
  '[[ $status == 200 && -n $body && $body$(field content-type) == "$direct" ]]'

# --- the rate limit -------------------------------------------------------------------------------

# Its window should hold next to nothing else, so that nothing leaves it meanwhile.
if ((spent > 2)); then
  pause "$WINDOW"
  spent=0
fi
allowed=$(metric rate_limit_allowed) blocked=$(metric rate_limit_blocked)
began=$SECONDS
for ((sent = 0; sent <= QUOTA; sent += 50)); do
  burst 50
  (($(count 429) > 0)) && break
done
ask "$DATA"
after=$(field retry-after)
# The limiter counts in sub-windows, and the wait ends with one: up to a thirtieth of a window late.
check 'over the limit it is 429 with Retry-After' \
  '[[ $status == 429 && $after =~ ^[0-9]+$ ]] && ((after > 0 && (after - 1) * 1000 < WINDOW * 31 / 30))'
check 'and with the RateLimit and RateLimit-Policy fields' \
  '[[ $(field ratelimit) == *r=0* && $(field ratelimit-policy) == *q=$QUOTA* ]]'
check "the window has let $QUOTA requests in, and /metrics counts them" \
  '(($(metric rate_limit_allowed) - allowed + spent == QUOTA && $(metric rate_limit_blocked) > blocked))'
if [[ -z ${TRUSTED_PROXIES:-} ]]; then
  ask -H 'X-Forwarded-For: 203.0.113.9' "$DATA"
  check 'X-Forwarded-For from a stranger changes nothing' '[[ $status == 429 ]]'
fi
ask "${GATEWAY%/}/health"
check '/health is not limited' '[[ $status == 200 ]]'
took_s=$((SECONDS - began + 1))
[[ $after =~ ^[0-9]+$ ]] && pause $((after * 1000))
ask "$DATA"
check 'after Retry-After requests are let in again' '[[ $status == 200 ]]'
# Until all of them have left the window.
pause $((took_s * 1000))
spent=1

# --- retry and timeout ----------------------------------------------------------------------------

if ((RETRIES > 0)); then
  # Jitter may spend all attempts before the backend has been told to recover: three tries.
  for try in 1 2 3; do
    behave 1 0 0
    room 1
    retries=$(metric total_retries)
    curl -s --max-time "$(sec "$LONGEST")" -o /dev/null -w '%{http_code}' "$DATA" >"$TMP/code" &
    for ((i = 0; i < 100; i++)); do
      (($(metric total_retries) > retries)) && break
      sleep 0.02
    done
    behave 0 0 0
    wait $!
    status=$(cat "$TMP/code")
    [[ $status == 200 ]] && break
  done
  check 'a transient failure is retried, and the client sees a success' \
    '[[ $status == 200 ]] && (($(metric total_retries) > retries))'
fi

behave 0 1 "$(sec $((TIMEOUT + 1000)))"
retries=$(metric total_retries)
data
check "attempts that time out are retried $RETRIES times, then 503" \
  '[[ $status == 503 ]] && (($(metric total_retries) == retries + RETRIES))'
check 'no attempt waits longer than the timeout' '((took >= TIMEOUT * (RETRIES + 1) && took < LONGEST))'

behave 0 0 0
data
check 'the backend is well again: 200' '[[ $status == 200 ]]'

# --- the breaker ----------------------------------------------------------------------------------

behave 1 0 0
retries=$(metric total_retries)
room "$THRESHOLD"
if ((THRESHOLD > 1)); then
  ask "$DATA"
  check "a request whose attempts all fail is 503 after $RETRIES retries" \
    '[[ $status == 503 ]] && (($(metric total_retries) == retries + RETRIES))'
  burst $((THRESHOLD - 2))
  check "below $THRESHOLD failed requests in a row the breaker is CLOSED" \
    '[[ $(count 503) == $((THRESHOLD - 2)) && $(metric circuit_breaker_state) == CLOSED ]]'
fi
ask "$DATA"
check "after $THRESHOLD failed requests in a row it is OPEN" \
  '[[ $status == 503 && $(metric circuit_breaker_state) == OPEN ]]'

retries=$(metric total_retries)
data
after=$(field retry-after)
check 'OPEN answers 503 at once, with Retry-After, and does not ask the backend' \
  '[[ $status == 503 && $after =~ ^[0-9]+$ ]] && ((after > 0 && (after - 1) * 1000 < RECOVERY
  && took < 500 && $(metric total_retries) == retries))'

pause "$RECOVERY"
data
check 'after the recovery timeout one probe is let through; it fails: OPEN again' \
  '[[ $status == 503 && $(metric circuit_breaker_state) == OPEN ]] &&
  (($(metric total_retries) == retries + RETRIES))'

behave 0 1 "$(sec $((TIMEOUT * 3 / 4)))"
pause "$RECOVERY"
check 'after the recovery timeout it is HALF_OPEN' 'until_metric circuit_breaker_state HALF_OPEN'
room 2
burst 2
check 'of two requests HALF_OPEN lets one through' '[[ $(count 200) == 1 && $(count 503) == 1 ]]'
check 'the probe has succeeded: CLOSED again' '[[ $(metric circuit_breaker_state) == CLOSED ]]'

echo
echo "$passed passed, $failed failed"
((failed == 0))
