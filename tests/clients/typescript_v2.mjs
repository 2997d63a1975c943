// A client on TypeScript SDK 2.x; its jobs come on standard input.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'

import { afterDelete, exercise, Heard, serve } from './typescript_common.mjs'

serve(async job => {
  const heard = new Heard()
  const Transport = job.transport === 'sse' ? SSEClientTransport : StreamableHTTPClientTransport
  const transport = new Transport(job.url, { fetch: heard.fetch })
  const client = new Client({ name: 'typescript-v2', version: '1' }, { versionNegotiation: { mode: job.mode } })
  client.setNotificationHandler('notifications/message', ({ params }) => void heard.logs.push(params.data))
  client.setNotificationHandler('notifications/resources/list_changed', () => void heard.announcements++)

  await client.connect(transport)
  const protocol = client.getNegotiatedProtocolVersion()
  const report = { server: client.getServerVersion().name, protocol }
  const modern = protocol >= '2026-07-28'
  const callTool = (parameters, options) => client.callTool(parameters, options)
  Object.assign(report, await exercise(client, callTool, job, heard, modern))
  if (!modern) await transport.terminateSession?.()
  await client.close()
  return { ...report, wire: heard.wire, after_delete: await afterDelete(job, heard) }
})
