// A participant without any SDK: holds seats, sells them or gives them back (TCC), each exactly once in effect.
//
//   node seats.mjs [PORT] [FILE]
//
// Needs Node 18 and nothing else. What it keeps is one file: a line is one local transaction, on disk (fsync) before it is
// answered, and holds the barrier's rows beside the change of the seats. One process works on a file, one call at a time.
// With SKALD_SIGNING_KEY (whsec_...) calls must be signed (Standard Webhooks).
import { createHmac, timingSafeEqual } from 'node:crypto';
import { existsSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';

const [port = '8082', path = 'seats.log'] = process.argv.slice(2);
const key = process.env.SKALD_SIGNING_KEY;
// What undoes what: a late forward call must not run once its undo was here.
const FORWARD = { cancel: 'try', compensate: 'action' };
const CAPACITY = 1000;

const rows = new Map();
let held = 0;
let sold = 0;

/** What a business says no with; the answer never flips. */
class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.answer = { code, message };
  }
}

// Each gives what changes and what is answered; nothing is changed before it is on disk.
const routes = {
  '/hold': ({ seats }) => {
    if (held + sold + seats > CAPACITY) throw new Refusal('sold_out', `${CAPACITY - held - sold} are left`);
    return { held: seats, answer: { seats } };
  },
  '/sell': ({ seats }) => ({ held: -seats, sold: seats, answer: { sold: seats } }),
  '/give-back': ({ seats }) => ({ held: -seats, answer: {} }),
};

function apply(transaction) {
  held += transaction.held ?? 0;
  sold += transaction.sold ?? 0;
  for (const row of transaction.rows) rows.set(row.key, row);
}

const file = openSync(path, existsSync(path) ? 'r+' : 'w+');
let end = 0;
for (const line of readFileSync(path, 'utf8').split(/(?<=\n)/)) {
  // A line that was cut off was never answered.
  if (!line.endsWith('\n')) break;
  apply(JSON.parse(line));
  end += Buffer.byteLength(line);
}
ftruncateSync(file, end);

function commit(transaction) {
  const line = Buffer.from(`${JSON.stringify(transaction)}\n`);
  writeSync(file, line, 0, line.length, end);
  fsyncSync(file);
  end += line.length;
  apply(transaction);
}

/** What the barrier did, status and answer: all of it in one local transaction, or nothing. */
function barrier(business, gid, branch, operation, body) {
  const keyOf = (of) => JSON.stringify([gid, branch, of]);
  const own = rows.get(keyOf(operation));
  if (own) {
    if (own.by !== operation) return [409, { code: 'superseded', message: 'its undo was here before' }, 'superseded'];
    return [own.status, own.answer, 'stored'];
  }
  const forward = FORWARD[operation];
  const ran = forward && rows.get(keyOf(forward));
  const row = { key: keyOf(operation), by: operation, status: 200, answer: {} };
  if (forward && !ran) {
    // The forward call never ran, and with its row it never will.
    commit({ rows: [{ key: keyOf(forward), by: operation }, row] });
    return [200, {}, 'empty'];
  }
  if (ran?.status >= 400) {
    commit({ rows: [row] });
    return [200, {}, 'executed'];
  }
  try {
    const { answer, ...changes } = business(body);
    commit({ ...changes, rows: [{ ...row, answer }] });
    return [200, answer, 'executed'];
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    commit({ rows: [{ ...row, status: 422, answer: error.answer }] });
    return [422, error.answer, 'executed'];
  }
}

/** Standard Webhooks: HMAC-SHA256 over id.timestamp.body, not older than five minutes, of this very call. */
function isSigned(headers, body) {
  if (!key) return true;
  const { 'webhook-id': id, 'webhook-timestamp': sent, 'webhook-signature': signatures = '' } = headers;
  if (id === undefined || id !== headers['idempotency-key'] || !(Math.abs(Date.now() / 1000 - Number(sent)) <= 300)) return false;
  const secret = Buffer.from(key.slice('whsec_'.length), 'base64');
  const expected = createHmac('sha256', secret).update(`${id}.${sent}.`).update(body).digest();
  const given = signatures.split(' ').filter((one) => one.startsWith('v1,')).map((one) => Buffer.from(one.slice(3), 'base64'));
  return given.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
}

function handle(request, body) {
  if (request.method === 'GET') return [200, { held, sold }];
  const business = routes[request.url];
  const { 'skald-transaction': gid, 'skald-branch': branch, 'skald-operation': operation } = request.headers;
  if (!business || !gid || !branch || !operation) return [404, { code: 'unknown_operation' }];
  if (!isSigned(request.headers, body)) return [401, { code: 'unsigned' }];
  let parsed;
  try {
    parsed = JSON.parse(body.toString() || 'null');
  } catch {
    return [422, { code: 'invalid_body' }];
  }
  if (!Number.isInteger(parsed?.seats) || parsed.seats < 1) return [422, { code: 'invalid_body', message: 'seats: a whole number' }];
  return barrier(business, gid, branch, operation, parsed);
}

const server = createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    let [status, answer, did] = [500, { code: 'failed' }];
    try {
      [status, answer, did] = handle(request, Buffer.concat(parts));
    } catch (error) {
      console.error(error);
    }
    const headers = { 'content-type': 'application/json', ...(did && { 'skald-barrier': did }) };
    response.writeHead(status, headers).end(JSON.stringify(answer));
  });
});
server.listen(Number(port), '127.0.0.1', () => console.log(`seats at http://127.0.0.1:${server.address().port}`));
