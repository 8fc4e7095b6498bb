// Requests to the server. Addresses are relative, so that the page works under any path prefix.

const OWN = { "x-crossband": "1" };

/** An answer of the server that says in one line what is wrong. */
export class Refused extends Error {}

const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** Return the query of an address from what is not empty. */
export function query(values) {
  const used = Object.entries(values).filter(([, v]) => v !== "" && v != null);
  return new URLSearchParams(used).toString();
}

/** Ask until the answer is there: 202 says that it is being computed. */
export async function ask(path, values = {}, { signal } = {}) {
  for (;;) {
    const answer = await fetch(`api/${path}?${query(values)}`, { signal });
    if (answer.status === 202 || answer.status === 503) {
      await pause(300, signal);
      continue;
    }
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }
}

export const askJson = async (...given) => (await ask(...given)).json();

export async function send(path, body = {}) {
  const headers = { ...OWN, "content-type": "application/json" };
  const answer = await fetch(`api/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

/** Send a file; `progress` is called with the share that is sent. */
export function upload(file, progress, signal) {
  const path = `api/uploads?${query({ name: file.name, modified: file.lastModified })}`;
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.setRequestHeader("x-crossband", "1");
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new Refused("the server closed the connection: is the file too large?"));
    request.onload = () => {
      if (request.status === 201) resolve(request.response);
      else reject(new Refused(request.response?.error ?? `the server answers ${request.status}`));
    };
    signal.addEventListener("abort", () => {
      request.abort();
      reject(signal.reason);
    });
    request.send(file);
  });
}

async function refusal(answer) {
  const said = await answer.json().catch(() => ({}));
  return new Refused(said.error ?? `the server answers ${answer.status}`);
}
