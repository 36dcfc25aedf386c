// The work, as the parent describes it: which messages there are, and the request that each of them is.
export const work = JSON.parse(process.env.BENCH_WORK);

const url = new URL(work.url);
export const origin = url.origin;

// The n-th message as a job's data. Messages go round the channels in turn.
export function job(n) {
  return {
    id: n,
    channel: work.channels[n % work.channels.length],
    recipient: "+" + (work.firstRecipient + n),
    text: work.text,
  };
}

export function* jobs(first, count) {
  for (let n = first; n < first + count; n++) yield job(n);
}

export function path(job) {
  return `/${work.version}/${job.channel}/messages`;
}

export const headers = {
  "Authorization": `Bearer ${work.token}`,
  "Content-Type": "application/json",
  "Accept-Encoding": "identity",
};

export function body(job) {
  return {
    messaging_product: "whatsapp",
    recipient_type: "individual",
    biz_opaque_callback_data: `rival.${job.id}`,
    type: "text",
    text: { preview_url: false, body: job.text },
    to: job.recipient,
  };
}
