// What a TypeScript SDK client does with a server, and what it reports; the same on SDK 1.x and 2.x.
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    transport: { type: 'string', default: 'streamable' },
    mode: { type: 'string', default: 'legacy' },
    resumable: { type: 'boolean', default: false },
    streamless: { type: 'boolean', default: false }
  }
})
export const args = { ...values, url: new URL(positionals[0]) }

/** A fetch that notes which answers came, and the session id that was given. */
export const wire = { answers: new Set(), session: null }
export async function watchedFetch(url, init) {
  const response = await fetch(url, init)
  wire.answers.add(`${init?.method ?? 'GET'} ${response.status}`)
  wire.session = response.headers.get('mcp-session-id') ?? wire.session
  return response
}

/** What came in beside answers. */
export const heard = { logs: [], announcements: 0 }

/** Lists and calls everything; `callTool(parameters, options)` is the SDK's. */
export async function exercise(client, callTool, modern) {
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
    report.slow = await call('trigger-long-running-operation', { duration: 0.4, steps: 4 }, { onprogress })
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
  if (args.resumable && !modern) {
    report.resumed = await call('hang_up')
    report.logs = heard.logs.toSorted()
  }
  if (!args.streamless && !modern) report.announced = await announced(call)
  return report
}

/** Status of a call on the session that was just ended. */
export async function afterDelete() {
  if (!wire.session) return null
  const headers = { 'mcp-session-id': wire.session, 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
  const body = JSON.stringify({ jsonrpc: '2.0', id: 99, method: 'tools/list' })
  return (await fetch(args.url, { method: 'POST', headers, body })).status
}

export function print(report) {
  console.log(JSON.stringify({ ...report, wire: [...wire.answers].sort() }))
  process.exit(0)
}

// Announcements are lost until the GET stream stands, so it is asked for again until one comes.
async function announced(call) {
  for (let n = 0; n < 20 && heard.announcements === 0; n++) {
    await call('announce')
    await new Promise(done => setTimeout(done, 250))
  }
  return heard.announcements > 0
}
