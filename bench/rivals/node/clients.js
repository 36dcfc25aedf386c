// The HTTP clients: each a function that sends one job and returns the id under which it was accepted.
import http from "node:http";

import axios from "axios";
import { Pool } from "undici";

import { body, headers, origin, path, work } from "./work.js";

const clients = { axios: withAxios, undici: withUndici };

export function client(name) {
  return clients[name]();
}

// The old stack's: an agent that keeps its sockets alive.
function withAxios() {
  const instance = axios.create({
    baseURL: origin,
    headers,
    timeout: 30_000,
    httpAgent: new http.Agent({ keepAlive: true, maxSockets: work.connections, maxFreeSockets: work.connections }),
  });
  return async (job) => (await instance.post(path(job), body(job))).data.messages[0].id;
}

function withUndici() {
  const pool = new Pool(origin, { connections: work.connections });
  return async (job) => {
    const answer = await pool.request({ method: "POST", path: path(job), headers, body: JSON.stringify(body(job)) });
    const document = await answer.body.json();
    if (answer.statusCode !== 200) throw new Error(`${answer.statusCode} ${JSON.stringify(document)}`);
    return document.messages[0].id;
  };
}
