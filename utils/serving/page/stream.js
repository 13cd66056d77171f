/** A chat as it comes from the server: pieces one by one, and in words whatever went wrong. */

const GONE = "The server does not answer. Is serve.py still running? Nothing is lost: try again when it is.";
const BROKEN = "The connection broke off before the answer ended.";

/** What a request came to instead of an answer; its message is for people. */
export class Failure extends Error {
  constructor(message, status = null) {
    super(message);
    this.status = status;
  }
}

/** JSON from an address of the server; throws a Failure. */
export async function read(path, key) {
  const reply = await ask(path, { headers: headers(key) });
  return reply.json();
}

/** The pieces of a streamed chat. Throws a Failure, or what the signal's abort throws. */
export async function* chat(body, key, signal) {
  const sent = { method: "POST", headers: headers(key), body: JSON.stringify(body), signal };
  const reply = await ask("/v1/chat/completions", sent);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Failure(BROKEN);
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.replace(/^data: ?/, "");
        if (data === "[DONE]") return;
        const piece = JSON.parse(data);
        if (piece.error) throw new Failure(sentence(piece.error.message));
        yield piece;
      }
    }
  } catch (error) {
    if (error instanceof Failure || signal.aborted) throw error;
    throw new Failure(BROKEN);
  } finally {
    reader.cancel().catch(() => {});
  }
}

function headers(key) {
  const json = { "Content-Type": "application/json" };
  return key ? { ...json, Authorization: `Bearer ${key}` } : json;
}

async function ask(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Failure(GONE);
  }
  if (reply.ok) return reply;
  const error = await reply.json().then((body) => body.error, () => null);
  throw new Failure(words(reply, error), reply.status);
}

function words(reply, error) {
  const message = sentence(error?.message ?? `The server answered with status ${reply.status}`);
  const after = reply.headers.get("Retry-After");
  if (reply.status === 429) return `The server is full, too many answers wait for it. Try again in ${after ?? 1} s.`;
  if (error?.code === "context_length_exceeded") {
    return `The conversation is too long for this model. ${message} Clear it, or ask for a shorter answer.`;
  }
  return message;
}

function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
