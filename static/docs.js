// Shows openapi.json with Swagger UI 5.35.0 (Apache-2.0), whose files lie beside this one: nothing is loaded from elsewhere.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: false,
  // An empty field of the form is sent as well, and an empty crop is refused.
  requestInterceptor: (request) => {
    if (request.body?.get?.("crop") === "") {
      request.body.delete("crop");
    }
    return request;
  },
});
