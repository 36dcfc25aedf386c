// How a process of the bench and its parent talk: JSON documents, one a line, over stdin and stdout.
import { createInterface } from "node:readline";

export function tell(document) {
  process.stdout.write(JSON.stringify(document) + "\n");
}

// Calls `handle` for each document in order, and `end` when the parent has closed the line.
export async function obey(handle, end = () => process.exit(0)) {
  for await (const line of createInterface({ input: process.stdin })) await handle(JSON.parse(line));
  await end();
}
