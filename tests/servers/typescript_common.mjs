// What the servers on TypeScript SDK 1.x and 2.x share: the tools, the event store, and the HTTP around the transports.
import { AsyncLocalStorage } from 'node:async_hooks'
import { parseArgs } from 'node:util'

import express from 'express'

export const { values: args } = parseArgs({
  options: {
    port: { type: 'string' },
    name: { type: 'string' },
    transport: { type: 'string', default: 'streamable' },
    json: { type: 'boolean', default: false }
  }
})

/** The HTTP request that the running handler answers: `{ body, headers, session }`. */
const current = new AsyncLocalStorage()

/** Keeps every event of every stream; ids are opaque to clients and ordered for us. */
export class MemoryEventStore {
  #events = []

  async storeEvent(streamId, message) {
    this.#events.push({ streamId, message })
    return `${streamId}::${this.#events.length}`
  }

  async getStreamIdForEventId(eventId) {
    return eventId.slice(0, eventId.lastIndexOf('::'))
  }

  async replayEventsAfter(lastEventId, { send }) {
    const at = lastEventId.lastIndexOf('::')
    const streamId = lastEventId.slice(0, at)
    for (let place = Number(lastEventId.slice(at + 2)); place < this.#events.length; place++) {
      const { streamId: owner, message } = this.#events[place]
      // A priming event carries an empty message: it only gives the client an id.
      if (owner === streamId && Object.keys(message).length > 0) await send(`${streamId}::${place + 1}`, message)
    }
    return streamId
  }
}

/**
 * The tools that every test server has. The two SDKs differ in three things, given in `sdk`:
 * `notify(context, notification)`, `token(context)` (the progress token) and `hangUp(context)` (ends the event stream).
 */
export function registerTools(server, slowInput, sdk) {
  server.registerTool('whoami', { description: 'Which instance answers.' }, () => text({ name: args.name, pid: process.pid }))
  server.registerTool('count', { description: 'Calls of this tool so far in this session.' }, () => text({ name: args.name, count: count() }))
  server.registerTool('seen', { description: 'Headers and params of this very request.' }, () => {
    const { headers, body } = current.getStore()
    return text({ headers, params: body.params })
  })
  server.registerTool('slow', { description: 'Reports progress.', inputSchema: slowInput }, async (input, context) => {
    const progressToken = sdk.token(context)
    for (let step = 1; step <= input.steps; step++) {
      const params = { progressToken, progress: step, total: input.steps, message: `step ${step}` }
      if (progressToken !== undefined) await sdk.notify(context, { method: 'notifications/progress', params })
      await pause(input.pause)
    }
    // The SDKs drop progress that is read together with the answer.
    await pause(1)
    return text(`${input.steps} steps`)
  })
  server.registerTool('hang_up', { description: 'Ends its own event stream before it answers.' }, async context => {
    const say = data => sdk.notify(context, { method: 'notifications/message', params: { level: 'info', data } })
    await say('before')
    sdk.hangUp(context)
    await pause(0.2)
    await say('after')
    return text('resumed')
  })
  server.registerTool('announce', { description: 'Sends a notification on the stream of the session.' }, async () => {
    await server.server.sendResourceListChanged()
    return text('announced')
  })
}

/** An Express app that keeps each request for `seen` and `count`, and serves a gateway's `/servers/{id}/…` as `/…`. */
export function makeApp() {
  const app = express()
  app.use(express.json({ limit: '5mb' }))
  app.use((request, _response, next) => {
    request.url = request.url.replace(/^\/servers\/[^/]+(?=\/(mcp|sse|message)(\?|$))/, '')
    const session = request.headers['mcp-session-id'] ?? request.query.sessionId
    current.run({ body: request.body, headers: request.headers, session }, next)
  })
  return app
}

/**
 * Serves `/mcp` with one transport per session; `connect(options)` makes a transport with a server behind it.
 * `/sessions` tells how many were begun, and how many of them are open.
 */
export function serveSessions(app, connect) {
  const transports = new Map()
  let begun = 0
  app.get('/sessions', (_request, response) => response.json({ begun, open: transports.size }))
  app.all('/mcp', async (request, response) => {
    const session = request.headers['mcp-session-id']
    let transport = transports.get(session)
    if (!transport) {
      if (session) return refuse(response)
      transport = await connect({
        enableJsonResponse: args.json,
        eventStore: args.json ? undefined : new MemoryEventStore(),
        retryInterval: 50,
        onsessioninitialized: id => {
          begun += 1
          transports.set(id, transport)
        },
        onsessionclosed: id => void transports.delete(id)
      })
    }
    await transport.handleRequest(request, response, request.body)
  })
}

export function refuse(response) {
  response.status(404).json({ jsonrpc: '2.0', id: null, error: { code: -32001, message: 'Session not found' } })
}

const counts = new Map()

function count() {
  const { session } = current.getStore()
  counts.set(session, (counts.get(session) ?? 0) + 1)
  return counts.get(session)
}

const text = value => ({ content: [{ type: 'text', text: typeof value === 'string' ? value : JSON.stringify(value) }] })

const pause = seconds => new Promise(done => setTimeout(done, seconds * 1000))
