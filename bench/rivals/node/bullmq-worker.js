// BullMQ's worker; `process.argv[2]` names the HTTP client.
import { Worker } from "bullmq";

import { client } from "./clients.js";
import { obey, tell } from "./lines.js";
import { DeliveryLog } from "./log.js";
import { work } from "./work.js";

const send = client(process.argv[2]);
const log = new DeliveryLog();
const worker = new Worker("messages", async ({ data }) => log.accepted(data, await send(data)), {
  connection: work.redis,
  concurrency: work.connections,
  autorun: false,
  // What "Going to production" advises: a handful of the done, more of the failed.
  removeOnComplete: { count: 1000 },
  removeOnFail: { count: 5000 },
});
worker.on("error", (error) => console.error(error));
worker.on("failed", (job, error) => console.error(error));
await worker.waitUntilReady();
tell({ ready: true });

await obey(
  () => void worker.run(),
  async () => {
    await worker.close();
    process.exit(0);
  },
);
