// Puts messages into the queue by `addBulk`, as BullMQ's documentation advises for many.
import { Queue } from "bullmq";

import { obey, tell } from "./lines.js";
import { jobs, work } from "./work.js";

// One call is one transaction in Redis, which others wait for.
const AT_ONCE = 1000;
const queue = new Queue("messages", { connection: work.redis });
await queue.waitUntilReady();
tell({ ready: true });

await obey(async ({ enqueue: [first, count] }) => {
  for (let from = first; from < first + count; from += AT_ONCE) {
    const some = jobs(from, Math.min(AT_ONCE, first + count - from));
    const opts = { attempts: 3, backoff: { type: "exponential", delay: 1000 } };
    await queue.addBulk(Array.from(some, (data) => ({ name: "send", data, opts })));
  }
  tell({ enqueued: count });
});
