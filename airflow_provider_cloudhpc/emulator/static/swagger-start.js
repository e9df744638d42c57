// SPDX-License-Identifier: Apache-2.0
SwaggerUIBundle({ url: "/en/catuser/openapi.json", dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: true });
