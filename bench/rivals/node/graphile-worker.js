// graphile-worker with the batching that its page "Performance" recommends for high throughput.
import { Logger, run } from "graphile-worker";
import pg from "pg";

import { client } from "./clients.js";
import { obey, tell } from "./lines.js";
import { DeliveryLog } from "./log.js";
import { work } from "./work.js";

const send = client("undici");
const log = new DeliveryLog();
const preset = {
  worker: {
    concurrentJobs: work.connections,
    // As its own measurements are made: a queue longer than there are jobs at a time, completions batched without delay.
    // Its documented starting point, one more than the jobs and 250 ms, is slower and keeps messages waiting here.
    localQueue: { size: 2 * work.connections },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    // Its lines for each job would be measured too.
    logger: new Logger(() => (level, message) => level === "error" && console.error(message)),
  },
};
tell({ ready: true });

let runner;
await obey(
  async () => {
    runner = await run({
      preset,
      // With the local queue a few connections do; "10" is the documented start.
      pgPool: new pg.Pool({ max: 10 }),
      noHandleSignals: true,
      taskList: { send: async (data) => log.accepted(data, await send(data)) },
    });
  },
  async () => {
    await runner?.stop();
    process.exit(0);
  },
);
