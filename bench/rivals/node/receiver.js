// A minimal receiver of status webhooks, for all rivals: checks the signature, updates the log's rows, answers 200.
import { createHmac, timingSafeEqual } from "node:crypto";
import http from "node:http";

import pg from "pg";

import { obey, tell } from "./lines.js";
import { work } from "./work.js";

const RANKS = { sent: 1, delivered: 2, read: 3 };
const UPDATE = `
  UPDATE delivery_log l SET rank = s.rank,
    delivered_at = CASE WHEN s.rank = 2 THEN to_timestamp(s.at) ELSE l.delivered_at END,
    read_at = CASE WHEN s.rank = 3 THEN to_timestamp(s.at) ELSE l.read_at END
  FROM unnest($1::text[], $2::smallint[], $3::float8[]) AS s (provider_id, rank, at)
  WHERE l.provider_id = s.provider_id AND l.rank < s.rank`;

// By the index, whatever the planner thinks of a partition that is not analyzed yet: else it reads it whole each time.
const options = ["seqscan", "hashjoin", "mergejoin"].map((plan) => `-c enable_${plan}=off`).join(" ");
const pool = new pg.Pool({ max: 10, options });

async function apply(body) {
  // The furthest status of each message, in one order for all requests: else they would deadlock.
  const furthest = new Map();
  for (const entry of JSON.parse(body).entry)
    for (const change of entry.changes)
      for (const status of change.value.statuses) {
        const rank = RANKS[status.status];
        if (!(furthest.get(status.id)?.rank > rank)) furthest.set(status.id, { rank, at: Number(status.timestamp) });
      }
  const ids = [...furthest.keys()].sort();
  const values = [ids, ids.map((id) => furthest.get(id).rank), ids.map((id) => furthest.get(id).at)];
  // Not a prepared statement: one planned while the table was empty would read it whole for ever.
  await pool.query({ text: UPDATE, values });
}

function isSigned(request, body) {
  const expected = "sha256=" + createHmac("sha256", work.appSecret).update(body).digest("hex");
  const given = request.headers["x-hub-signature-256"] ?? "";
  return given.length === expected.length && timingSafeEqual(Buffer.from(given), Buffer.from(expected));
}

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  try {
    if (isSigned(request, body)) await apply(body);
    else response.statusCode = 403;
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
  }
  response.end();
});
server.listen(work.receiverPort, "127.0.0.1", () => tell({ ready: true }));
await obey(() => {});
