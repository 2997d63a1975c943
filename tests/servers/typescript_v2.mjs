// A server on TypeScript SDK 2.x: sessions and the stateless era on one endpoint.   typescript_v2.mjs --port P --name N
import { randomUUID } from 'node:crypto'

import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node'
import { classifyInboundRequest, createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import * as z from 'zod'

import { args, makeApp, registerTools, serveSessions } from './typescript_common.mjs'

const capabilities = { logging: {}, resources: { listChanged: true } }

function makeServer() {
  const server = new McpServer({ name: 'typescript-v2', version: '1' }, { capabilities })
  registerTools(server, z.object({ steps: z.number().default(3), pause: z.number().default(0.05) }), {
    notify: (context, notification) => context.mcpReq.notify(notification),
    token: context => context.mcpReq._meta?.progressToken,
    hangUp: context => context.http?.closeSSE?.()
  })
  return server
}

const app = makeApp()
const modern = toNodeHandler(createMcpHandler(makeServer))
app.post('/mcp', (request, response, next) => {
  const inbound = classifyInboundRequest({
    httpMethod: request.method,
    protocolVersionHeader: request.headers['mcp-protocol-version'],
    mcpMethodHeader: request.headers['mcp-method'],
    body: request.body
  })
  return inbound.kind === 'legacy' ? next() : modern(request, response, request.body)
})
serveSessions(app, async options => {
  const transport = new NodeStreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, ...options })
  await makeServer().connect(transport)
  return transport
})
app.listen(Number(args.port), '127.0.0.1')
