// The operator's page. Three connections: requests and status, images, and the emergency stop on a port of its own.

import { Plot, PlotSet } from "/plots.js";

const STALE = 1.0; // s after which a status or an image is called old
const BEAT = 200; // ms
const FIRST_RETRY = 500; // ms
const LAST_RETRY = 5000; // ms
const SHOWN_EVENTS = 40;
const WRONG_TOKEN = 4401;
const UNITS = {
  joint_position: "rad", joint_velocity: "of the limit", workspace: "m", self_collision: "m", obstacle: "m",
  singularity: "", joint_state: "s", chunk: "s", observation: "s", heartbeat: "s",
};
const WHAT = {
  take: "took the command", release: "gave the command back", lost: "lost", instruct: "said", hold: "held the arm",
  disarm: "disarmed", arm: "armed", reset: "reset", estop: "EMERGENCY STOP", start_recording: "recording",
  end_recording: "end of recording",
};

const $ = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;

let welcome = null; // what the console said first
let status = null; // newest status, and when it came
let statusAt = -Infinity;
let pressedAt = null; // when this page pressed the emergency stop, until it is confirmed
let fatal = ""; // why no further connection is tried

// ---- token and name

function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    sessionStorage.setItem("token", found);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") ?? "";
}
let token = takeToken();

// ---- connections

class Connection {
  constructor(address, hello, take, changed) {
    Object.assign(this, { address, hello, take, changed, retry: FIRST_RETRY, socket: null, wanted: true });
    this.open();
  }

  open() {
    if (!this.wanted || fatal) return;
    const socket = new WebSocket(this.address());
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.retry = FIRST_RETRY;
      socket.send(JSON.stringify({ type: "hello", token, ...this.hello() }));
      this.changed?.(true, null);
    };
    socket.onmessage = (event) => this.take(event.data);
    socket.onclose = (event) => {
      this.changed?.(false, event);
      if (event.code === WRONG_TOKEN) askForToken();
      setTimeout(() => this.open(), this.retry);
      this.retry = Math.min(2 * this.retry, LAST_RETRY);
    };
  }

  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  close() {
    this.wanted = false;
    this.socket?.close();
  }
}

function place(port) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${port ? `${location.hostname}:${port}` : location.host}`;
}

const myName = () => localStorage.getItem("name") ?? "";

const main = new Connection(
  () => `${place()}/pages`,
  () => ({ name: myName() }),
  (data) => {
    const message = JSON.parse(data);
    ({ welcome: takeWelcome, status: takeStatus, events: showEvents, answer: showAnswer })[message.type]?.(message);
  },
  (open) => {
    if (!open) {
      welcome = null;
      document.body.dataset.mine = "no";
    }
  },
);

let stopLine = null;
let images = null;

function takeWelcome(message) {
  welcome = message;
  document.title = `${message.robot}: operator console`;
  $("record").hidden = !message.records;
  document.querySelector("footer").hidden = message.view_only;
  $("operate").hidden = false;
  for (const id of ["say", "command"]) $(id).hidden = message.view_only;
  $("page").textContent = `You are ${message.title} of robot ${message.robot}.` +
    (message.page_timeout ? ` While you command, ${message.page_timeout} s without this page are an emergency stop.` : "");
  makeCameras(message.cameras);
  stopLine?.close();
  if (message.estop_port) {
    stopLine = new Connection(
      () => `${place(message.estop_port)}/estop`,
      () => ({ name: message.title, key: message.key }),
      () => {},
    );
  }
  images?.close();
  images = new Connection(() => `${place()}/images`, () => ({}), takeImage, (open) => open && chooseCameras());
}

setInterval(() => stopLine?.send({ type: "beat" }), BEAT);

function askForToken() {
  fatal = "This console needs another token.";
  $("login").hidden = false;
  $("token").focus();
}

$("login").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value.trim());
  location.reload();
};

// ---- emergency stop: first of all keys and clicks, and on every connection that there is

function press() {
  const sent = [stopLine?.send({ type: "press" }), main.send({ type: "estop" })].some(Boolean);
  pressedAt = seconds();
  if (!sent) {
    showAnswer({ done: false, text: "The emergency stop was NOT SENT: no connection. Use the button at the robot." });
  }
  showStop();
}

const isTyping = (event) => event.target instanceof HTMLInputElement;

function isStopKey(event) {
  return isTyping(event) ? event.code === "Escape" : event.code === "Space";
}

addEventListener("keydown", (event) => {
  if (!isStopKey(event)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (!event.repeat) press();
}, { capture: true });

addEventListener("keyup", (event) => { // or the space bar would click the button that has the focus
  if (isStopKey(event)) event.preventDefault();
}, { capture: true });

$("estop").addEventListener("pointerdown", (event) => {
  event.preventDefault();
  press();
});
$("estop").addEventListener("click", (event) => { // a screen reader, or Enter
  if (event.detail === 0) press();
});

function showStop() {
  const line = status?.estop;
  const stopped = status?.safety?.state === "ESTOP";
  if (stopped) pressedAt = null;
  let word = "EMERGENCY STOP";
  let detail = "space bar; while typing: Esc";
  if (stopped) {
    word = "STOPPED";
    detail = line?.pressed ? `${line.why}; Reset ends it` : "Reset ends it";
  } else if (line?.pressed || pressedAt !== null) {
    word = "EMERGENCY STOP IS PRESSED";
    detail = "NOT confirmed by the safety layer: use the button at the robot";
  } else if (line?.failure) {
    detail = `cannot be sent: ${line.failure}`;
  } else if (status && status.estop_readers === 0) {
    detail = "nobody hears it: there is no safety node. Use the button at the robot";
  }
  $("estop_word").textContent = word;
  $("estop_detail").textContent = detail;
  $("estop").classList.toggle("pressed", Boolean(line?.pressed || pressedAt !== null));
}

// ---- requests

function ask(type, fields = {}) {
  if (!main.send({ type, ...fields })) showAnswer({ done: false, text: "Not sent: no connection to the console." });
}

$("take").onclick = () => ask(isMine() ? "release" : "take");
$("arm").onclick = () => ask("arm");
$("hold").onclick = () => ask("hold");
$("disarm").onclick = () => ask("disarm");
$("reset").onclick = () => ask("reset", { presses: status?.estop?.presses ?? 0 });
$("record_start").onclick = () => ask("start_recording");
$("record_success").onclick = () => ask("end_recording", { success: true, keep: true });
$("record_failure").onclick = () => ask("end_recording", { success: false, keep: true });
$("record_unmarked").onclick = () => ask("end_recording", { success: null, keep: true });
$("record_drop").onclick = () => ask("end_recording", { success: null, keep: false });

$("say").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  ask("instruct", { text });
  $("text").value = "";
  $("text").blur(); // the space bar is the emergency stop again
};

$("naming").onsubmit = (event) => {
  event.preventDefault();
  localStorage.setItem("name", $("name").value.trim());
  location.reload();
};
$("name").value = myName();

// ---- what comes back

const isMine = () => welcome !== null && status?.command?.page === welcome.page;

function takeStatus(message) {
  status = message;
  statusAt = seconds();
  const { safety } = message;
  showState(safety);
  showCommand(message.command);
  showStop();
  showTask(message);
  showRecording(message.recording);
  plot(message);
}

const isFresh = (part) => part != null && part.age != null && part.age < STALE;

function showState(safety) {
  const fresh = isFresh(safety);
  document.body.dataset.state = fresh ? safety.state : "none";
  $("state").textContent = fresh ? safety.state : "UNKNOWN";
  if (!safety) $("sentence").textContent = "The safety node has said nothing yet.";
  else if (!fresh) $("sentence").textContent = `The safety node has said nothing for ${safety.age.toFixed(1)} s.`;
  else $("sentence").textContent = safety.sentence || safety.reason;
  if (!fresh) {
    $("detail").textContent = safety ? `Its last word: ${safety.state} (${safety.reason}).` : "";
    return;
  }
  const words = [safety.armed ? "armed" : "not armed", `reason: ${safety.reason}`];
  if (safety.armed) words.push(`speed ${Math.round(100 * (safety.speed_scale ?? 0))} %`);
  if (safety.observation_age !== null) words.push(`observation ${Math.round(1000 * safety.observation_age)} ms old`);
  $("detail").textContent = words.join(" · ");
}

function showCommand(command) {
  const mine = isMine();
  document.body.dataset.mine = mine ? "yes" : "no";
  const others = command.pages === 1 ? "1 page looks" : `${command.pages} pages look`;
  if (welcome?.view_only) $("who").textContent = `This console only shows; ${others}.`;
  else if (mine) $("who").textContent = `You command; ${others}.`;
  else $("who").textContent = `${command.title || "Nobody"} commands; ${others}.`;
  $("take").textContent = mine ? "Give back" : "Take command";
  $("take").disabled = !mine && command.page !== null;
  for (const id of ["send", "arm"]) $(id).disabled = !mine;
  $("reset").disabled = !mine || !(status.safety?.state === "ESTOP" || status.estop?.pressed);
  $("text").disabled = !mine;
}

function showTask({ instruction, task, policy }) {
  const words = [];
  if (instruction) words.push(`In force: “${instruction.text}”.`);
  if (policy) words.push(`Policy ${policy.name}: ${policy.state}${policy.sentence ? `, ${policy.sentence}` : ""}.`);
  if (isFresh(task)) words.push(task.success ? "Success." : task.detail);
  $("task").textContent = words.join(" ");
}

function showRecording(recording) {
  const mine = isMine();
  $("record_start").disabled = !mine || recording !== null;
  for (const id of ["success", "failure", "unmarked", "drop"]) $(`record_${id}`).disabled = !mine || recording === null;
  $("recording").textContent = !recording ? "" :
    recording.failure ? `cannot be kept: ${recording.failure}` : `● ${recording.name}, ${recording.seconds.toFixed(0)} s`;
}

function showAnswer({ done, text }) {
  $("answer").textContent = text;
  $("answer").className = done ? "good" : "bad";
}

function showEvents({ events }) {
  const list = events.slice(-SHOWN_EVENTS).reverse().map((event) => {
    const item = document.createElement("li");
    const line = document.createElement("span");
    const bold = document.createElement("b");
    bold.textContent = event.text ? `“${event.text}”` : WHAT[event.what] ?? event.what;
    line.append(`${new Date(1000 * event.time).toLocaleTimeString()} ${event.who}: `, bold);
    const answer = document.createElement("span");
    answer.className = "answer";
    answer.textContent = event.done === null ? "waiting for the answer" : event.answer;
    item.className = event.done === false ? "bad" : "";
    item.append(line, answer);
    if (event.what === "instruct") item.onclick = () => { if (!$("text").disabled) $("text").value = event.text; };
    return item;
  });
  $("events").replaceChildren(...list);
  const earlier = [...new Set(events.filter((event) => event.what === "instruct").map((event) => event.text))];
  $("earlier").replaceChildren(...earlier.reverse().map((text) => new Option(text)));
}

function showHealth() {
  const lines = (status?.health ?? []).map((line) => {
    const item = document.createElement("li");
    const bold = document.createElement("b");
    const gone = line.age > 5;
    bold.textContent = `${gone ? "silent" : line.level} `;
    bold.className = gone ? "stale" : line.level;
    item.append(bold, `${line.name}: ${line.text}`, gone ? ` (${line.age.toFixed(0)} s ago)` : "");
    return item;
  });
  $("lines").replaceChildren(...lines);
}

// ---- cameras

const views = new Map();

function makeCameras(names) {
  if ([...views.keys()].join() === names.join()) return;
  views.clear();
  const figures = names.map((name) => {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    figure.append(canvas, caption);
    views.set(name, { figure, canvas, caption });
    return figure;
  });
  $("cameras").replaceChildren(...figures);
}

function chooseCameras() {
  images?.send({ type: "show", cameras: document.hidden ? [] : [...views.keys()] });
}
document.addEventListener("visibilitychange", chooseCameras);

async function takeImage(data) {
  const [index, number] = [new DataView(data).getUint8(0), new DataView(data).getUint32(1)];
  const view = [...views.values()][index];
  try {
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 5)], { type: "image/jpeg" }));
    if (view && !(view.number > number && view.number - number < 100)) { // decoded out of order
      view.number = number;
      if (view.canvas.width !== bitmap.width) view.canvas.width = bitmap.width;
      if (view.canvas.height !== bitmap.height) view.canvas.height = bitmap.height;
      view.canvas.getContext("2d").drawImage(bitmap, 0, 0);
      view.at = seconds();
    }
    bitmap.close();
  } finally {
    images?.send({ type: "shown" });
  }
}

function showCameras() {
  for (const [name, view] of views) {
    const report = status?.cameras?.find((camera) => camera.name === name);
    const age = report?.age ?? Infinity;
    const drawn = view.at === undefined ? Infinity : seconds() - view.at;
    const old = !(age < STALE && drawn < 2 * STALE);
    view.figure.classList.toggle("old", old);
    const since = Math.max(age, drawn);
    const why = report?.trouble || (Number.isFinite(since) ? `no image for ${since.toFixed(1)} s` : "no image");
    view.caption.textContent = old ? `${name}: ${why}` : name;
  }
}

// ---- plots

const axes = new PlotSet($("axes"), (parent, name) => new Plot(parent, name, ["proposed", "executed"]));
const margins = new PlotSet($("margins"), (parent, name) => {
  const title = UNITS[name] ? `${name}, ${UNITS[name]}` : name;
  return new Plot(parent, title, ["executed"], { limit: 0 });
});
const confidence = new Plot($("confidence"), "0 (does not move) to 1", ["executed"], { low: 0, high: 1, digits: 2 });

function plot({ safety, policy }) {
  const now = seconds();
  const fresh = isFresh(safety);
  if (safety) {
    axes.keep(safety.axes);
    safety.axes.forEach((name, index) => {
      const values = fresh ? [safety.proposed[index] ?? null, safety.executed[index] ?? null] : [null, null];
      axes.add(now, name, values);
    });
    margins.keep(Object.keys(safety.margins));
    for (const [name, value] of Object.entries(safety.margins)) margins.add(now, name, [fresh ? value : null]);
  }
  confidence.add(now, [isFresh(policy) ? policy.confidence : null]);
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    ["line", "bad", "proposed", "executed"].map((name) => [name, style.getPropertyValue(`--${name}`)]),
  );
}

function draw() {
  if (document.hidden) return;
  const now = seconds();
  const palette = colors();
  axes.draw(now, palette);
  margins.draw(now, palette);
  confidence.draw(now, palette);
}

// ---- the page's own health

function look() {
  const silence = seconds() - statusAt;
  const old = silence > STALE;
  document.body.classList.toggle("old", old);
  $("lost").hidden = !old;
  if (fatal) $("lost").textContent = fatal;
  else if (old) {
    $("lost").textContent = Number.isFinite(silence)
      ? `No word from the console for ${silence.toFixed(0)} s: what you see is old. Use the button at the robot to stop.`
      : "Connecting to the console. Use the button at the robot to stop.";
  }
  showCameras();
  showHealth();
}

setInterval(look, 500);
setInterval(draw, 200);
