// The old stack's delivery log: outcomes are buffered, and inserted by 200 or every 2 s.
import pg from "pg";

import { tell } from "./lines.js";

const ROWS = 200;
const MOST_MS = 2000;
// Nothing more came for so long: then the rest is written at once, so that the clock does not wait for the timer.
const IDLE_MS = 50;

const INSERT = `
  INSERT INTO delivery_log (id, day, channel, recipient, provider_id, rank, accepted_at)
  SELECT id, $6::date, channel, recipient, provider_id, 1, to_timestamp(accepted_ms / 1000)
  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::float8[])
    AS o (id, channel, recipient, provider_id, accepted_ms)`;

export class DeliveryLog {
  #pool = new pg.Pool({ max: 4 });
  #rows = [];
  #since = 0;
  #last = 0;

  constructor() {
    setInterval(() => {
      const now = Date.now();
      if (this.#rows.length && (now - this.#since >= MOST_MS || now - this.#last >= IDLE_MS)) this.#flush();
    }, IDLE_MS / 2).unref();
  }

  accepted(job, providerId) {
    this.#last = Date.now();
    if (!this.#rows.length) this.#since = this.#last;
    this.#rows.push([job.id, job.channel, job.recipient, providerId, this.#last]);
    if (this.#rows.length >= ROWS) this.#flush();
  }

  async #flush() {
    const rows = this.#rows;
    this.#rows = [];
    const columns = [0, 1, 2, 3, 4].map((column) => rows.map((row) => row[column]));
    const day = new Date(rows[0][4]).toISOString().slice(0, 10);
    await this.#pool.query({ name: "log", text: INSERT, values: [...columns, day] });
    tell({ stored: rows.length });
  }
}
