// What a TypeScript SDK client does with a server, and what it reports; the same on SDK 1.x and 2.x.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

if (process.env.CLIENT_CERT) await showCertificate(readFileSync(process.env.CLIENT_CERT))

/**
 * Runs `main(job)` for every job on standard input, one JSON object a line, all at once. What a job has and how it is
 * answered is told in python_common.py.
 */
export function serve(main) {
  createInterface({ input: process.stdin }).on('line', async line => {
    const job = JSON.parse(line)
    let outcome
    try {
      outcome = { report: await inTime(main({ ...job, url: new URL(job.url) })) }
    } catch (error) {
      outcome = { error: error?.stack ?? String(error) }
    }
    console.log(JSON.stringify({ job: job.id, ...outcome }))
  })
  // A broken connection may raise what nobody awaits; the job that misses it says so itself.
  process.on('unhandledRejection', error => console.error(error))
}

/** What a job hears: which answers came, the session id that was given, and what came in beside answers. */
export class Heard {
  answers = new Set()
  session = null
  logs = []
  announcements = 0

  fetch = async (url, init) => {
    const response = await fetch(url, init)
    this.answers.add(`${init?.method ?? 'GET'} ${response.status}`)
    this.session = response.headers.get('mcp-session-id') ?? this.session
    return response
  }

  get wire() {
    return [...this.answers].sort()
  }
}

/** From now on `fetch` shows this certificate; node's own has no option for it but that of the agent underneath. */
async function showCertificate(pem) {
  const agent = Symbol.for('undici.globalDispatcher.1')
  // The agent is made with the first request.
  await fetch('data:,')
  globalThis[agent] = new globalThis[agent].constructor({ connect: { cert: pem, key: pem } })
}

/** Lists and calls everything; `callTool(parameters, options)` is the SDK's. */
export async function exercise(client, callTool, job, heard, modern) {
  const call = async (name, input = {}, options = {}) => {
    const result = await callTool({ name, arguments: input }, options)
    if (result.isError) throw new Error(`${name}: ${result.content[0].text}`)
    return result.content[0].text
  }
  const tools = (await client.listTools()).tools.map(tool => tool.name).sort()
  const report = { tools, instances: [], progress: [] }
  const onprogress = ({ progress }) => report.progress.push(progress)
  if (!tools.includes('whoami')) {
    // @modelcontextprotocol/server-everything has tools of its own.
    report.slow = await call('trigger-long-running-operation', { duration: 2, steps: 4 }, { onprogress })
    for (let n = 0; n < 3; n++) report.instances.push(JSON.parse(await call('get-env')).OUTRIGGER_INSTANCE)
    report.echo = await call('echo', { message: '\u00e9\u{1f6f6}' })
    return report
  }
  report.instances.push(JSON.parse(await call('whoami')).name)
  report.counts = []
  for (let n = 0; n < 3; n++) {
    const answer = JSON.parse(await call('count'))
    report.instances.push(answer.name)
    report.counts.push(answer.count)
  }
  const seen = JSON.parse(await call('seen'))
  report.host = seen.headers.host
  report.server_id = seen.params.server_id ?? null
  report.slow = await call('slow', { steps: 4 }, { onprogress })
  report.concurrent = await Promise.all([call('slow', { steps: 2 }), call('slow', { steps: 5 })])
  if (job.resumable && !modern) {
    report.resumed = await call('hang_up')
    report.logs = heard.logs.toSorted()
  }
  if (!job.streamless && !modern) report.announced = await announced(call, heard)
  return report
}

/** Status of a call on the session that was just ended. */
export async function afterDelete(job, heard) {
  if (!heard.session) return null
  const headers = { 'mcp-session-id': heard.session, 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
  const body = JSON.stringify({ jsonrpc: '2.0', id: 99, method: 'tools/list' })
  return (await fetch(job.url, { method: 'POST', headers, body })).status
}

const inTime = work =>
  new Promise((done, failed) => {
    const timer = setTimeout(() => failed(new Error('not done within 150 s')), 150_000)
    work.then(done, failed).finally(() => clearTimeout(timer))
  })

// Announcements are lost until the GET stream stands, so it is asked for again until one comes.
async function announced(call, heard) {
  for (let n = 0; n < 100 && heard.announcements === 0; n++) {
    await call('announce')
    await new Promise(done => setTimeout(done, 250))
  }
  return heard.announcements > 0
}
