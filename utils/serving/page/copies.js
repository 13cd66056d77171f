/** Requests as commands that run elsewhere. A key is never written into them. */

const KEY = "CAA_API_KEY";

/** One curl for each answer. */
export function curl(answers, withKey) {
  const header = withKey ? ` -H "Authorization: Bearer $${KEY}"` : "";
  const address = `${location.origin}/v1/chat/completions`;
  return answers
    .map(({ heading, request }) => {
      const body = JSON.stringify(plain(request)).replaceAll("'", "'\\''");
      return `# ${oneLine(heading)}\ncurl ${address} -H 'Content-Type: application/json'${header} -d '${body}'\n`;
    })
    .join("echo\n");
}

/** A script for the openai package. */
export function python(answers, withKey) {
  const { model, temperature, max_tokens, seed } = answers[0].request;
  const runs = answers.map(
    ({ heading, request }) =>
      `    (${literal(heading)},\n     ${literal(request.messages)},\n     ${literal(request.steering ?? null)}),`,
  );
  const key = withKey ? `os.environ["${KEY}"]` : '"none"';
  return `${withKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${literal(`${location.origin}/v1`)}, api_key=${key})
runs = [
${runs.join("\n")}
]
for name, messages, steering in runs:
    reply = client.chat.completions.create(
        model=${literal(model)},
        messages=messages,
        temperature=${literal(temperature)},
        max_tokens=${literal(max_tokens)},
        seed=${literal(seed)},
        extra_body={"steering": steering},
    )
    print(name, reply.choices[0].message.content, sep="\\n", end="\\n\\n")
`;
}

/** A request as a client would send it that reads the whole answer at once. */
function plain(request) {
  const { stream, stream_options, token_scores, ...rest } = request;
  return rest;
}

/** A value as Python writes it. */
function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, each]) => `${literal(name)}: ${literal(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** A name may hold a new line, and a comment ends there. */
function oneLine(text) {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");
}
