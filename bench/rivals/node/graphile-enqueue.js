// Puts messages into the queue by `addJobs`, graphile-worker's call for many.
import { makeWorkerUtils } from "graphile-worker";
import pg from "pg";

import { obey, tell } from "./lines.js";
import { jobs } from "./work.js";

const AT_ONCE = 5000;
const utils = await makeWorkerUtils({ pgPool: new pg.Pool({ max: 2 }) });
await utils.migrate();
tell({ ready: true });

await obey(async ({ enqueue: [first, count] }) => {
  for (let from = first; from < first + count; from += AT_ONCE) {
    const some = jobs(from, Math.min(AT_ONCE, first + count - from));
    await utils.addJobs(Array.from(some, (payload) => ({ identifier: "send", payload, maxAttempts: 3 })));
  }
  tell({ enqueued: count });
});
