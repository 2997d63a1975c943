// A server on TypeScript SDK 1.x: sessions, stateless or HTTP+SSE.   typescript_v1.mjs --port P --name N [--transport T]
import { randomUUID } from 'node:crypto'

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import * as z from 'zod'

import { args, makeApp, refuse, registerTools, serveSessions } from './typescript_common.mjs'

const capabilities = { logging: {}, resources: { listChanged: true } }

async function connected(transport) {
  const server = new McpServer({ name: 'typescript-v1', version: '1' }, { capabilities })
  registerTools(server, { steps: z.number().default(3), pause: z.number().default(0.05) }, {
    notify: (extra, notification) => extra.sendNotification(notification),
    token: extra => extra._meta?.progressToken,
    hangUp: extra => extra.closeSSEStream?.()
  })
  await server.connect(transport)
  return transport
}

const app = makeApp()
if (args.transport === 'sse') {
  const transports = new Map()
  app.get('/sse', async (_request, response) => {
    const transport = new SSEServerTransport('/message', response)
    transports.set(transport.sessionId, transport)
    response.on('close', () => transports.delete(transport.sessionId))
    await connected(transport)
  })
  app.post('/message', async (request, response) => {
    const transport = transports.get(request.query.sessionId)
    if (!transport) return refuse(response)
    await transport.handlePostMessage(request, response, request.body)
  })
} else if (args.transport === 'stateless') {
  app.post('/mcp', async (request, response) => {
    const transport = await connected(new StreamableHTTPServerTransport({ enableJsonResponse: args.json }))
    await transport.handleRequest(request, response, request.body)
  })
} else {
  serveSessions(app, options => connected(new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, ...options })))
}
app.listen(Number(args.port), '127.0.0.1')
