#!/usr/bin/python3
# node.py - acceptance, do no harm: `node -e` with libuv's pool, worker threads and children.
#
# V8's own threads, 16 of libuv's pool (crypto, files, names, zlib) and 12 workers that share an
# array by Atomics. The output is compared byte for byte, also that of an uncaught exception.
# SPDX-License-Identifier: Apache-2.0
import os
import shutil

import harness

NODE = shutil.which("node", path=harness.ENVIRONMENT["PATH"]) or "/usr/bin/node"
SCRIPT = r"""
const crypto = require('crypto'), fs = require('fs'), zlib = require('zlib'), net = require('net');
const { promisify } = require('util');
const { Worker } = require('worker_threads');
const { execFile } = require('child_process');
const hash = (data) => crypto.createHash('sha256').update(data).digest('hex');

async function pool() {
  const derive = promisify(crypto.pbkdf2);
  const keys = await Promise.all([...Array(32).keys()].map(
      (i) => derive('password', 'salt' + i, 20000, 32, 'sha256')));
  return hash(Buffer.concat(keys));
}
async function files() {
  const data = Buffer.alloc(1 << 20, 'weft');
  await Promise.all([...Array(20).keys()].map((i) => fs.promises.writeFile('f' + i, data)));
  const back = await Promise.all([...Array(20).keys()].map((i) => fs.promises.readFile('f' + i)));
  return [back.every((b) => b.equals(data)), hash(await promisify(zlib.gzip)(data))];
}
function workers() {
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const source = `const { workerData, parentPort } = require('worker_threads');
    Atomics.add(workerData, 1, 1); Atomics.notify(workerData, 1);
    if (Atomics.load(workerData, 1) < 12) Atomics.wait(workerData, 1, 12, 1);
    for (let i = 0; i < 100000; i++) Atomics.add(workerData, 0, 1);
    parentPort.postMessage('done');`;
  return Promise.all([...Array(12).keys()].map(() => new Promise((resolve, reject) => {
    const worker = new Worker(source, { eval: true, workerData: shared });
    worker.on('error', reject);
    worker.on('exit', resolve);
  }))).then((codes) => [codes.join(), shared[0], shared[1]]);
}
function sockets() {
  return new Promise((resolve) => {
    const server = net.createServer((s) => s.pipe(s)).listen(0, '127.0.0.1', () => {
      let open = 50, received = 0;
      for (let i = 0; i < 50; i++) {
        const c = net.connect(server.address().port, '127.0.0.1', () => c.end('x'.repeat(5000)));
        c.on('data', (d) => { received += d.length; });
        c.on('close', () => { if (--open === 0) server.close(() => resolve(received)); });
      }
    });
  });
}
const child = () => promisify(execFile)('/bin/sh', ['-c', 'echo child; exit 0'])
    .then((r) => r.stdout.trim());
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
(async () => {
  for (const part of [pool, files, workers, sockets, child]) console.log(part.name, await part());
  await sleep(50);
  process.on('SIGUSR2', () => { console.log('signal'); process.exit(3); });
  process.kill(process.pid, 'SIGUSR2');
  await sleep(20000);
})();
"""


def case(run):
  done = run.call(NODE, "-e", SCRIPT, env={"UV_THREADPOOL_SIZE": "16"})
  thrown = run.call(NODE, "-e", "setTimeout(() => { throw new Error('on purpose'); }, 10)")
  run.expect(b"signal" in done.out, f"not run to the end: {done.complaint()}")
  return {"status": done.status, "output": done.out, "errors": done.err,
          "thrown": (thrown.status, thrown.err)}


harness.main("node", case, needs=[os.path.realpath(NODE)], native_threads=20)
